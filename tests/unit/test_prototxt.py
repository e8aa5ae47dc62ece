"""The committed networks and solvers, read as text: what the paper says, and what holds between the files."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from torchcaffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[2]
NETS = [
    "vgg_gap_train_val", "vgg_gap_random_train_val", "vgg_gap_scratch_train_val", "vgg_gap_deploy",
    "vgg16_gap_train_val", "vgg16_gap_random_train_val", "vgg16_gap_scratch_train_val", "vgg16_gap_deploy",
    "vgg_gap_narrow_train_val", "vgg_gap_narrow_deploy",
]  # fmt: skip
KINDS = {"": "vgg_gap", "vgg16_": "vgg16_gap", "narrow_": "vgg_gap_narrow", "googlenet_": "googlenet_gap"}  # of solvers
GOOGLENETS = ["googlenet_gap_train_val", "googlenet_gap_random_train_val", "googlenet_gap_scratch_train_val",
              "googlenet_gap_deploy", "googlenet_deploy"]
SOLVERS = ["narrow_stage1", "narrow_stage2"] + [
    prefix + name for prefix in KINDS if prefix != "narrow_"
    for name in ("stage1", "stage2", "stage1_scratch", "random_stage1", "random_stage2")]
TRAINED = [name for name in NETS if "train_val" in name]
ALL_TRAINED = TRAINED + [name for name in GOOGLENETS if "train_val" in name]
VALIDATION_PICTURES = 150
EPOCH = 60000 // 32  # iterations over the paper's augmented training set

CONVOLUTIONS = [  # the 13 of VGG-16 and the one before the pooling: name, outputs, padding
    ("conv1_1", 64, 1), ("conv1_2", 64, 1), ("conv2_1", 128, 1), ("conv2_2", 128, 1), ("conv3_1", 256, 1),
    ("conv3_2", 256, 1), ("conv3_3", 256, 1), ("conv4_1", 512, 1), ("conv4_2", 512, 1), ("conv4_3", 512, 1),
    ("conv5_1", 512, 1), ("conv5_2", 512, 1), ("conv5_3", 512, 0), ("CAM_conv", 1024, 0),
]  # fmt: skip
LEARNING = [name for name, _, _ in CONVOLUTIONS] + ["CAM_fc3"]


def read_net(name):
    return text_format.Parse((ROOT / "prototxt" / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())


def read_solver(name):
    return text_format.Parse((ROOT / "solvers" / f"{name}.prototxt").read_text(), caffe_pb2.SolverParameter())


def layers_of(net, kind):
    return [layer for layer in net.layer if layer.type == kind]


def width_divisor(name):
    return 8 if "narrow" in name else 1


def walk(net):
    """Follow the pictures through the net by hand: return ({blob: (channels, size)}, number of parameters)."""
    shapes, parameters = {"data": (3, 224)}, 0
    for layer in net.layer:
        if layer.type not in ("Convolution", "Pooling", "InnerProduct"):
            continue
        channels, size = shapes[layer.bottom[0]]
        if layer.type == "Convolution":
            conv = layer.convolution_param
            size += 2 * conv.pad[0] - conv.kernel_size[0] + 1
            parameters += conv.num_output * (channels // conv.group * conv.kernel_size[0] ** 2 + 1)
            channels = conv.num_output
        elif layer.type == "InnerProduct":
            parameters += layer.inner_product_param.num_output * (channels * size**2 + 1)
            channels = layer.inner_product_param.num_output
        elif layer.pooling_param.global_pooling:
            size = 1
        else:
            size = math.ceil((size - layer.pooling_param.kernel_size) / layer.pooling_param.stride) + 1
        shapes[layer.top[0]] = (channels, size)
    return shapes, parameters


def run_generator(folder, *arguments):
    command = [sys.executable, str(folder / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def generated(tmp_path):
    """A folder with a copy of the generator and what it wrote."""
    shutil.copy(ROOT / "prototxt" / "generate.py", tmp_path)
    assert run_generator(tmp_path).returncode == 0
    return tmp_path


class TestGenerator:
    def test_committed_files_are_what_the_generator_writes(self, generated):
        written = {path.name: path.read_bytes() for path in generated.glob("*.prototxt")}
        committed = {path.name: path.read_bytes() for path in (ROOT / "prototxt").glob("*.prototxt")}
        assert sorted(written) == sorted(f"{name}.prototxt" for name in NETS + GOOGLENETS)
        assert committed == written

    def test_check_accepts_the_files_just_written(self, generated):
        run = run_generator(generated, "--check")
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

    def test_check_names_changed_and_missing_files_and_leaves_them(self, generated):
        changed, missing, same = (generated / f"{name}.prototxt" for name in NETS[:3])
        changed.write_text(changed.read_text().replace("pad: 1", "pad: 0", 1))
        before = changed.read_text()
        missing.unlink()
        run = run_generator(generated, "--check")
        assert run.returncode == 1
        assert run.stderr.startswith("error: ")
        assert run.stderr.count("\n") == 1
        assert changed.name in run.stderr
        assert missing.name in run.stderr
        assert same.name not in run.stderr
        assert changed.read_text() == before
        assert not missing.exists()

    def test_writing_again_repairs_and_leaves_nothing_else(self, generated):
        (generated / f"{NETS[0]}.prototxt").write_text("damaged")
        assert run_generator(generated).returncode == 0
        assert run_generator(generated, "--check").returncode == 0
        assert len(list(generated.iterdir())) == len(NETS + GOOGLENETS) + 1

    def test_unwritable_target_is_one_line(self, generated):
        target = generated / f"{NETS[0]}.prototxt"
        target.unlink()
        target.mkdir()
        run = run_generator(generated)
        assert run.returncode == 1
        assert run.stderr.startswith("error: ")
        assert run.stderr.count("\n") == 1


class TestArchitecture:
    @pytest.mark.parametrize("name", NETS)
    def test_convolutions_are_those_of_the_paper(self, name):
        found = layers_of(read_net(name), "Convolution")
        wanted = [(conv, outputs // width_divisor(name), pad) for conv, outputs, pad in CONVOLUTIONS]
        assert [(c.name, c.convolution_param.num_output, c.convolution_param.pad[0]) for c in found] == wanted
        assert all(list(c.convolution_param.kernel_size) == [3] for c in found)
        groups = {c.name: c.convolution_param.group for c in found if c.convolution_param.group != 1}
        assert groups == ({} if "vgg16" in name else {"CAM_conv": 2})  # D25

    @pytest.mark.parametrize("name", NETS)
    def test_every_convolution_is_rectified_in_place(self, name):
        net = read_net(name)
        relus = {relu.bottom[0]: relu for relu in layers_of(net, "ReLU")}
        assert set(relus) == {conv.top[0] for conv in layers_of(net, "Convolution")}
        assert all(list(relu.top) == list(relu.bottom) for relu in relus.values())
        assert relus["conv1_1"].name == "relu1_1"
        assert relus["CAM_conv"].name == "CAM_relu"

    @pytest.mark.parametrize("name", NETS)
    def test_five_poolings_of_which_the_last_is_global(self, name):
        pools = layers_of(read_net(name), "Pooling")
        assert [pool.name for pool in pools] == ["pool1", "pool2", "pool3", "pool4", "CAM_pool"]
        for pool in pools[:4]:
            param = pool.pooling_param
            assert (param.pool, param.kernel_size, param.stride) == (caffe_pb2.PoolingParameter.MAX, 2, 2)
        assert pools[4].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
        assert pools[4].pooling_param.global_pooling

    @pytest.mark.parametrize("name", NETS)
    def test_dropout_is_half_and_in_place_behind_the_pooling(self, name):
        (dropout,) = layers_of(read_net(name), "Dropout")
        assert list(dropout.bottom) == list(dropout.top) == ["CAM_pool"]
        assert dropout.dropout_param.dropout_ratio == 0.5

    @pytest.mark.parametrize("name", NETS)
    def test_map_sizes(self, name):
        shapes, _ = walk(read_net(name))
        sizes = [shapes[blob][1] for blob in ("pool1", "pool2", "pool3", "pool4", "conv5_3", "CAM_conv", "CAM_pool")]
        assert sizes == [112, 56, 28, 14, 12, 10, 1]
        assert shapes["CAM_conv"] == (1024 // width_divisor(name), 10)
        assert shapes["CAM_fc3"] == (3, 1)

    @pytest.mark.parametrize("name", NETS)
    def test_number_of_parameters(self, name):
        # VGG-16's convolutions 14,714,688 + CAM_conv in two groups 1024 * (256 * 9 + 1) + classifier 3 * (1024 + 1);
        # with one group the same sum is 19,437,379.
        full = 14714688 + 2360320 + 3075
        assert full == 17078083
        assert walk(read_net(name))[1] == (267947 if "narrow" in name else 19437379 if "vgg16" in name else full)


class TestTraining:
    @pytest.mark.parametrize("name", ALL_TRAINED)
    def test_each_stage_and_phase_reads_its_own_lmdb(self, name):
        found = {}
        for layer in layers_of(read_net(name), "Data"):
            (rule,) = layer.include
            (stage,) = rule.stage
            found[rule.phase, stage] = (layer.data_param.source, layer.data_param.batch_size)
            assert layer.data_param.backend == caffe_pb2.DataParameter.LMDB
            assert list(layer.top) == ["data", "label"]
        assert found == {
            (caffe_pb2.TRAIN, "stage1"): ("build/lmdb/stage1_train", 32),
            (caffe_pb2.TEST, "stage1"): ("build/lmdb/stage1_val", 10),
            (caffe_pb2.TRAIN, "stage2"): ("build/lmdb/stage2_train", 32),
            (caffe_pb2.TEST, "stage2"): ("build/lmdb/stage2_val", 10),
        }

    @pytest.mark.parametrize("name", ALL_TRAINED)
    def test_mean_is_subtracted_and_only_random_patches_are_drawn(self, name):
        for layer in layers_of(read_net(name), "Data"):
            assert list(layer.transform_param.mean_value) == pytest.approx([103.939, 116.779, 123.68])
            drawn = ["mirror", "crop_size"] if "random" in name and layer.include[0].phase == caffe_pb2.TRAIN else []
            assert [field.name for field, _ in layer.transform_param.ListFields()] == [*drawn, "mean_value"]

    @pytest.mark.parametrize(("kind", "net"), [(kind, net) for kind, net in KINDS.items() if kind != "narrow_"])
    def test_random_patches_are_all_that_their_net_and_solvers_change(self, kind, net):
        drawn = read_net(f"{net}_random_train_val")
        for layer in layers_of(drawn, "Data"):
            if layer.include[0].phase == caffe_pb2.TRAIN:
                assert (layer.transform_param.crop_size, layer.transform_param.mirror) == (224, True)
                layer.transform_param.ClearField("crop_size")
                layer.transform_param.ClearField("mirror")
        assert drawn == read_net(f"{net}_train_val")
        for stage in ("stage1", "stage2"):
            changed = read_solver(f"{kind}random_{stage}")
            assert changed.net == f"prototxt/{net}_random_train_val.prototxt"
            changed.net = f"prototxt/{net}_train_val.prototxt"
            assert changed == read_solver(f"{kind}{stage}")

    @pytest.mark.parametrize("name", ALL_TRAINED)
    def test_accuracy_is_for_tests_only(self, name):
        (accuracy,) = layers_of(read_net(name), "Accuracy")
        assert [rule.phase for rule in accuracy.include] == [caffe_pb2.TEST]

    @pytest.mark.parametrize("name", TRAINED)
    def test_rates_say_which_layers_learn(self, name):
        rates = {layer.name: [param.lr_mult for param in layer.param] for layer in read_net(name).layer if layer.param}
        wanted = {layer: [1, 2] for layer in LEARNING}
        if name.startswith(("vgg_gap_t", "vgg_gap_r", "vgg16_gap_t", "vgg16_gap_r")):  # fine-tuned
            wanted.update({conv: [0, 0] for conv in LEARNING if conv[:5] in ("conv1", "conv2", "conv3", "conv4")})
            wanted["CAM_fc3"] = [10, 20]
            wanted["CAM_conv"] = [10, 20] if "vgg16" in name else [1, 2]  # D25: new where VGG-16 is the start
        assert rates == wanted

    @pytest.mark.parametrize("name", TRAINED)
    def test_fillers_are_given_where_no_weights_file_fills(self, name):
        fillers = {}
        for layer in layers_of(read_net(name), "Convolution") + layers_of(read_net(name), "InnerProduct"):
            param = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
            if param.HasField("weight_filler"):
                fillers[layer.name] = param.weight_filler.type
        if name.startswith(("vgg_gap_t", "vgg_gap_r", "vgg16_gap_t", "vgg16_gap_r")):
            assert fillers == {"CAM_conv": "gaussian", "CAM_fc3": "gaussian"}
        else:
            msra = dict.fromkeys(LEARNING[1:-1], "msra")
            assert fillers == {"conv1_1": "gaussian", "CAM_fc3": "gaussian", **msra}

    @pytest.mark.parametrize("name", [name for name in NETS + GOOGLENETS if "deploy" in name])
    def test_deploy_has_one_input_and_only_the_probabilities_out(self, name):
        net = read_net(name)
        assert list(net.layer[0].input_param.shape[0].dim) == [1, 3, 224, 224]
        used = {blob for layer in net.layer for blob in layer.bottom}
        assert {blob for layer in net.layer for blob in layer.top} - used == {"prob"}
        assert not any(layer.param or layer.include for layer in net.layer)


class TestSolvers:
    @pytest.mark.parametrize("name", SOLVERS)
    def test_net_exists_and_knows_the_stage(self, name):
        solver = read_solver(name)
        stage = "stage2" if "stage2" in name else "stage1"
        assert list(solver.train_state.stage) == [stage]
        assert [list(state.stage) for state in solver.test_state] == [[stage]]
        net = text_format.Parse((ROOT / solver.net).read_text(), caffe_pb2.NetParameter())
        assert stage in {rule.stage[0] for layer in layers_of(net, "Data") for rule in layer.include}
        assert ("narrow" in solver.net) == ("narrow" in name)
        assert ("scratch" in solver.net) == ("scratch" in name)
        assert ("googlenet" in solver.net) == ("googlenet" in name)
        assert ("vgg16" in solver.net) == ("vgg16" in name)
        assert ("random" in solver.net) == ("random" in name)

    @pytest.mark.parametrize("name", SOLVERS)
    def test_one_test_is_the_validation_set_exactly(self, name):
        solver = read_solver(name)
        net = text_format.Parse((ROOT / solver.net).read_text(), caffe_pb2.NetParameter())
        tested = [layer for layer in layers_of(net, "Data") if layer.include[0].phase == caffe_pb2.TEST]
        batches = {layer.data_param.batch_size for layer in tested}
        assert [tests * batch for tests in solver.test_iter for batch in batches] == [VALIDATION_PICTURES]

    @pytest.mark.parametrize("name", SOLVERS)
    def test_log_ends_with_a_test_and_a_loss_of_the_final_weights(self, name):
        solver = read_solver(name)
        for interval in (solver.test_interval, solver.display, solver.snapshot):
            assert solver.max_iter % interval == 0

    @pytest.mark.parametrize("name", SOLVERS)
    def test_snapshots_lie_in_the_folder_of_their_run(self, name):
        kind = next(kind for kind in sorted(KINDS, reverse=True) if name.startswith(kind))
        assert read_solver(name).snapshot_prefix == f"build/{name[len(kind):].replace('random_', '')}/{KINDS[kind]}"

    @pytest.mark.parametrize("name", ["stage1", "stage2", "stage1_scratch"])
    def test_full_runs_count_in_epochs_of_the_augmented_set(self, name):
        solver = read_solver(name)
        assert solver.max_iter == 10 * EPOCH
        assert solver.snapshot % EPOCH == 0
        assert solver.stepsize == 4 * EPOCH
        assert solver.solver_mode == caffe_pb2.SolverParameter.GPU

    @pytest.mark.parametrize("name", [name for name in SOLVERS if name.startswith(("narrow", "googlenet", "vgg16"))])
    def test_small_runs_are_for_a_cpu(self, name):
        assert read_solver(name).solver_mode == caffe_pb2.SolverParameter.CPU

    @pytest.mark.parametrize("name", SOLVERS)
    def test_runs_can_be_repeated(self, name):
        assert read_solver(name).random_seed >= 0

    @pytest.mark.parametrize("kind", ["", "random_", "narrow_"])
    def test_stages_differ_in_pictures_and_seed_only(self, kind):
        first, second = read_solver(kind + "stage1"), read_solver(kind + "stage2")
        for solver in (first, second):
            for field in ("train_state", "test_state", "snapshot_prefix", "random_seed"):
                solver.ClearField(field)
        assert first == second

    @pytest.mark.parametrize("kind", [name[:-len("stage1")] for name in SOLVERS if name.endswith("stage1")])
    def test_stage_2_names_the_last_snapshot_of_stage_1(self, kind):
        first = read_solver(kind + "stage1")
        text = (ROOT / "solvers" / f"{kind}stage2.prototxt").read_text()
        assert f"{first.snapshot_prefix}_iter_{first.max_iter}.caffemodel" in text
