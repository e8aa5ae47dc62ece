"""The messages of Caffe that torchcaffe knows: names, types and field numbers of caffe.proto (BVLC Caffe 1.0).

One message or enum a paragraph. A field is ``type name number=default``; after the type, ``*`` means
repeated, ``*!`` repeated and packed, ``&`` required. The oldest network syntax (V0) is left out on purpose.
"""

SCHEMA = """
enum Phase: TRAIN 0, TEST 1
BlobShape: int64*! dim 1
BlobProto: BlobShape shape 7, float*! data 5, float*! diff 6, double*! double_data 8, double*! double_diff
    9, int32 num 1=0, int32 channels 2=0, int32 height 3=0, int32 width 4=0
BlobProtoVector: BlobProto* blobs 1
Datum: int32 channels 1, int32 height 2, int32 width 3, bytes data 4, int32 label 5, float* float_data 6,
    bool encoded 7=false
enum FillerParameter.VarianceNorm: FAN_IN 0, FAN_OUT 1, AVERAGE 2
FillerParameter: string type 1=constant, float value 2=0.0, float min 3=0.0, float max 4=1.0, float mean
    5=0.0, float std 6=1.0, int32 sparse 7=-1, FillerParameter.VarianceNorm variance_norm 8=FAN_IN
NetParameter: string name 1, string* input 3, BlobShape* input_shape 8, int32* input_dim 4, bool
    force_backward 5=false, NetState state 6, bool debug_info 7=false, LayerParameter* layer 100,
    V1LayerParameter* layers 2
enum SolverParameter.SnapshotFormat: HDF5 0, BINARYPROTO 1
enum SolverParameter.SolverMode: CPU 0, GPU 1
enum SolverParameter.SolverType: SGD 0, NESTEROV 1, ADAGRAD 2, RMSPROP 3, ADADELTA 4, ADAM 5
SolverParameter: string net 24, NetParameter net_param 25, string train_net 1, string* test_net 2,
    NetParameter train_net_param 21, NetParameter* test_net_param 22, NetState train_state 26, NetState*
    test_state 27, int32* test_iter 3, int32 test_interval 4=0, bool test_compute_loss 19=false, bool
    test_initialization 32=true, float base_lr 5, int32 display 6, int32 average_loss 33=1, int32 max_iter
    7, int32 iter_size 36=1, string lr_policy 8, float gamma 9, float power 10, float momentum 11, float
    weight_decay 12, string regularization_type 29=L2, int32 stepsize 13, int32* stepvalue 34, float
    clip_gradients 35=-1.0, int32 snapshot 14=0, string snapshot_prefix 15, bool snapshot_diff 16=false,
    SolverParameter.SnapshotFormat snapshot_format 37=BINARYPROTO, SolverParameter.SolverMode solver_mode
    17=GPU, int32 device_id 18=0, int64 random_seed 20=-1, string type 40=SGD, float delta 31=1e-08, float
    momentum2 39=0.999, float rms_decay 38=0.99, bool debug_info 23=false, bool
    snapshot_after_train 28=true, SolverParameter.SolverType solver_type 30=SGD, bool layer_wise_reduce
    41=true, string* weights 42
SolverState: int32 iter 1, string learned_net 2, BlobProto* history 3, int32 current_step 4=0
NetState: Phase phase 1=TEST, int32 level 2=0, string* stage 3
NetStateRule: Phase phase 1, int32 min_level 2, int32 max_level 3, string* stage 4, string* not_stage 5
enum ParamSpec.DimCheckMode: STRICT 0, PERMISSIVE 1
ParamSpec: string name 1, ParamSpec.DimCheckMode share_mode 2, float lr_mult 3=1.0, float decay_mult 4=1.0
LayerParameter: string name 1, string type 2, string* bottom 3, string* top 4, Phase phase 10, float*
    loss_weight 5, ParamSpec* param 6, BlobProto* blobs 7, bool* propagate_down 11, NetStateRule* include 8,
    NetStateRule* exclude 9, TransformationParameter transform_param 100, LossParameter loss_param 101,
    AccuracyParameter accuracy_param 102, ArgMaxParameter argmax_param 103, BatchNormParameter
    batch_norm_param 139, BiasParameter bias_param 141, ClipParameter clip_param 148, ConcatParameter
    concat_param 104, ContrastiveLossParameter contrastive_loss_param 105, ConvolutionParameter
    convolution_param 106, CropParameter crop_param 144, DataParameter data_param 107, DropoutParameter
    dropout_param 108, DummyDataParameter dummy_data_param 109, EltwiseParameter eltwise_param 110,
    ELUParameter elu_param 140, EmbedParameter embed_param 137, ExpParameter exp_param 111, FlattenParameter
    flatten_param 135, HDF5DataParameter hdf5_data_param 112, HDF5OutputParameter hdf5_output_param 113,
    HingeLossParameter hinge_loss_param 114, ImageDataParameter image_data_param 115, InfogainLossParameter
    infogain_loss_param 116, InnerProductParameter inner_product_param 117, InputParameter input_param 143,
    LogParameter log_param 134, LRNParameter lrn_param 118, MemoryDataParameter memory_data_param 119,
    MVNParameter mvn_param 120, ParameterParameter parameter_param 145, PoolingParameter pooling_param 121,
    PowerParameter power_param 122, PReLUParameter prelu_param 131, PythonParameter python_param 130,
    RecurrentParameter recurrent_param 146, ReductionParameter reduction_param 136, ReLUParameter relu_param
    123, ReshapeParameter reshape_param 133, ScaleParameter scale_param 142, SigmoidParameter sigmoid_param
    124, SoftmaxParameter softmax_param 125, SPPParameter spp_param 132, SliceParameter slice_param 126,
    SwishParameter swish_param 147, TanHParameter tanh_param 127, ThresholdParameter threshold_param 128,
    TileParameter tile_param 138, WindowDataParameter window_data_param 129
TransformationParameter: float scale 1=1.0, bool mirror 2=false, uint32 crop_size 3=0, string mean_file 4,
    float* mean_value 5, bool force_color 6=false, bool force_gray 7=false
enum LossParameter.NormalizationMode: FULL 0, VALID 1, BATCH_SIZE 2, NONE 3
LossParameter: int32 ignore_label 1, LossParameter.NormalizationMode normalization 3=VALID, bool normalize 2
AccuracyParameter: uint32 top_k 1=1, int32 axis 2=1, int32 ignore_label 3
ArgMaxParameter: bool out_max_val 1=false, uint32 top_k 2=1, int32 axis 3
ClipParameter: float& min 1, float& max 2
ConcatParameter: int32 axis 2=1, uint32 concat_dim 1=1
BatchNormParameter: bool use_global_stats 1, float moving_average_fraction 2=0.999, float eps 3=1e-05
BiasParameter: int32 axis 1=1, int32 num_axes 2=1, FillerParameter filler 3
ContrastiveLossParameter: float margin 1=1.0, bool legacy_version 2=false
enum ConvolutionParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
ConvolutionParameter: uint32 num_output 1, bool bias_term 2=true, uint32* pad 3, uint32* kernel_size 4,
    uint32* stride 6, uint32* dilation 18, uint32 pad_h 9=0, uint32 pad_w 10=0, uint32 kernel_h 11, uint32
    kernel_w 12, uint32 stride_h 13, uint32 stride_w 14, uint32 group 5=1, FillerParameter weight_filler 7,
    FillerParameter bias_filler 8, ConvolutionParameter.Engine engine 15=DEFAULT, int32 axis 16=1, bool
    force_nd_im2col 17=false
CropParameter: int32 axis 1=2, uint32* offset 2
enum DataParameter.DB: LEVELDB 0, LMDB 1
DataParameter: string source 1, uint32 batch_size 4, uint32 rand_skip 7=0, DataParameter.DB backend
    8=LEVELDB, float scale 2=1.0, string mean_file 3, uint32 crop_size 5=0, bool mirror 6=false, bool
    force_encoded_color 9=false, uint32 prefetch 10=4
DropoutParameter: float dropout_ratio 1=0.5
DummyDataParameter: FillerParameter* data_filler 1, BlobShape* shape 6, uint32* num 2, uint32* channels 3,
    uint32* height 4, uint32* width 5
enum EltwiseParameter.EltwiseOp: PROD 0, SUM 1, MAX 2
EltwiseParameter: EltwiseParameter.EltwiseOp operation 1=SUM, float* coeff 2, bool stable_prod_grad 3=true
ELUParameter: float alpha 1=1.0
EmbedParameter: uint32 num_output 1, uint32 input_dim 2, bool bias_term 3=true, FillerParameter
    weight_filler 4, FillerParameter bias_filler 5
ExpParameter: float base 1=-1.0, float scale 2=1.0, float shift 3=0.0
FlattenParameter: int32 axis 1=1, int32 end_axis 2=-1
HDF5DataParameter: string source 1, uint32 batch_size 2, bool shuffle 3=false
HDF5OutputParameter: string file_name 1
enum HingeLossParameter.Norm: L1 1, L2 2
HingeLossParameter: HingeLossParameter.Norm norm 1=L1
ImageDataParameter: string source 1, uint32 batch_size 4=1, uint32 rand_skip 7=0, bool shuffle 8=false,
    uint32 new_height 9=0, uint32 new_width 10=0, bool is_color 11=true, float scale 2=1.0, string mean_file
    3, uint32 crop_size 5=0, bool mirror 6=false, string root_folder 12=
InfogainLossParameter: string source 1, int32 axis 2=1
InnerProductParameter: uint32 num_output 1, bool bias_term 2=true, FillerParameter weight_filler 3,
    FillerParameter bias_filler 4, int32 axis 5=1, bool transpose 6=false
InputParameter: BlobShape* shape 1
LogParameter: float base 1=-1.0, float scale 2=1.0, float shift 3=0.0
enum LRNParameter.NormRegion: ACROSS_CHANNELS 0, WITHIN_CHANNEL 1
enum LRNParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
LRNParameter: uint32 local_size 1=5, float alpha 2=1.0, float beta 3=0.75, LRNParameter.NormRegion
    norm_region 4=ACROSS_CHANNELS, float k 5=1.0, LRNParameter.Engine engine 6=DEFAULT
MemoryDataParameter: uint32 batch_size 1, uint32 channels 2, uint32 height 3, uint32 width 4
MVNParameter: bool normalize_variance 1=true, bool across_channels 2=false, float eps 3=1e-09
ParameterParameter: BlobShape shape 1
enum PoolingParameter.PoolMethod: MAX 0, AVE 1, STOCHASTIC 2
enum PoolingParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
enum PoolingParameter.RoundMode: CEIL 0, FLOOR 1
PoolingParameter: PoolingParameter.PoolMethod pool 1=MAX, uint32 pad 4=0, uint32 pad_h 9=0, uint32 pad_w
    10=0, uint32 kernel_size 2, uint32 kernel_h 5, uint32 kernel_w 6, uint32 stride 3=1, uint32 stride_h 7,
    uint32 stride_w 8, PoolingParameter.Engine engine 11=DEFAULT, bool global_pooling 12=false,
    PoolingParameter.RoundMode round_mode 13=CEIL
PowerParameter: float power 1=1.0, float scale 2=1.0, float shift 3=0.0
PythonParameter: string module 1, string layer 2, string param_str 3=, bool share_in_parallel 4=false
RecurrentParameter: uint32 num_output 1=0, FillerParameter weight_filler 2, FillerParameter bias_filler 3,
    bool debug_info 4=false, bool expose_hidden 5=false
enum ReductionParameter.ReductionOp: SUM 1, ASUM 2, SUMSQ 3, MEAN 4
ReductionParameter: ReductionParameter.ReductionOp operation 1=SUM, int32 axis 2=0, float coeff 3=1.0
enum ReLUParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
ReLUParameter: float negative_slope 1=0.0, ReLUParameter.Engine engine 2=DEFAULT
ReshapeParameter: BlobShape shape 1, int32 axis 2=0, int32 num_axes 3=-1
ScaleParameter: int32 axis 1=1, int32 num_axes 2=1, FillerParameter filler 3, bool bias_term 4=false,
    FillerParameter bias_filler 5
enum SigmoidParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
SigmoidParameter: SigmoidParameter.Engine engine 1=DEFAULT
SliceParameter: int32 axis 3=1, uint32* slice_point 2, uint32 slice_dim 1=1
enum SoftmaxParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
SoftmaxParameter: SoftmaxParameter.Engine engine 1=DEFAULT, int32 axis 2=1
SwishParameter: float beta 1=1.0
enum TanHParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
TanHParameter: TanHParameter.Engine engine 1=DEFAULT
TileParameter: int32 axis 1=1, int32 tiles 2
ThresholdParameter: float threshold 1=0.0
WindowDataParameter: string source 1, float scale 2=1.0, string mean_file 3, uint32 batch_size 4, uint32
    crop_size 5=0, bool mirror 6=false, float fg_threshold 7=0.5, float bg_threshold 8=0.5, float
    fg_fraction 9=0.25, uint32 context_pad 10=0, string crop_mode 11=warp, bool cache_images 12=false,
    string root_folder 13=
enum SPPParameter.PoolMethod: MAX 0, AVE 1, STOCHASTIC 2
enum SPPParameter.Engine: DEFAULT 0, CAFFE 1, CUDNN 2
SPPParameter: uint32 pyramid_height 1, SPPParameter.PoolMethod pool 2=MAX, SPPParameter.Engine engine
    6=DEFAULT
enum V1LayerParameter.LayerType: NONE 0, ABSVAL 35, ACCURACY 1, ARGMAX 30, BNLL 2, CONCAT 3,
    CONTRASTIVE_LOSS 37, CONVOLUTION 4, DATA 5, DECONVOLUTION 39, DROPOUT 6, DUMMY_DATA 32, EUCLIDEAN_LOSS
    7, ELTWISE 25, EXP 38, FLATTEN 8, HDF5_DATA 9, HDF5_OUTPUT 10, HINGE_LOSS 28, IM2COL 11, IMAGE_DATA 12,
    INFOGAIN_LOSS 13, INNER_PRODUCT 14, LRN 15, MEMORY_DATA 29, MULTINOMIAL_LOGISTIC_LOSS 16, MVN 34,
    POOLING 17, POWER 26, RELU 18, SIGMOID 19, SIGMOID_CROSS_ENTROPY_LOSS 27, SILENCE 36, SOFTMAX 20,
    SOFTMAX_LOSS 21, SPLIT 22, SLICE 33, TANH 23, WINDOW_DATA 24, THRESHOLD 31
enum V1LayerParameter.DimCheckMode: STRICT 0, PERMISSIVE 1
V1LayerParameter: string* bottom 2, string* top 3, string name 4, NetStateRule* include 32, NetStateRule*
    exclude 33, V1LayerParameter.LayerType type 5, BlobProto* blobs 6, string* param 1001,
    V1LayerParameter.DimCheckMode* blob_share_mode 1002, float* blobs_lr 7, float* weight_decay 8, float*
    loss_weight 35, AccuracyParameter accuracy_param 27, ArgMaxParameter argmax_param 23, ConcatParameter
    concat_param 9, ContrastiveLossParameter contrastive_loss_param 40, ConvolutionParameter
    convolution_param 10, DataParameter data_param 11, DropoutParameter dropout_param 12, DummyDataParameter
    dummy_data_param 26, EltwiseParameter eltwise_param 24, ExpParameter exp_param 41, HDF5DataParameter
    hdf5_data_param 13, HDF5OutputParameter hdf5_output_param 14, HingeLossParameter hinge_loss_param 29,
    ImageDataParameter image_data_param 15, InfogainLossParameter infogain_loss_param 16,
    InnerProductParameter inner_product_param 17, LRNParameter lrn_param 18, MemoryDataParameter
    memory_data_param 22, MVNParameter mvn_param 34, PoolingParameter pooling_param 19, PowerParameter
    power_param 21, ReLUParameter relu_param 30, SigmoidParameter sigmoid_param 38, SoftmaxParameter
    softmax_param 39, SliceParameter slice_param 31, TanHParameter tanh_param 37, ThresholdParameter
    threshold_param 25, WindowDataParameter window_data_param 20, TransformationParameter transform_param
    36, LossParameter loss_param 42
PReLUParameter: FillerParameter filler 1, bool channel_shared 2=false
"""
