"""The doctor with both engines, on data as make leaves it, and the trainings that it goes before."""

import re


def words(bench, run, engine):
    solvers = [bench.folder / f"{stage}.prototxt" for stage in ("stage1", "stage2")]
    return ["pycam", "doctor", "--solver", *solvers, "--net", bench.deploy, "--isic", bench.isic, "--run", run,
            "--engine", engine]


def test_all_is_well_before_the_training(bench, data, engine):
    out = bench.pycam(engine, *words(bench, data, engine))
    assert {line[:6] for line in out.splitlines() if line[0] != " "} == {"ok    "}
    assert re.search(r"^ok    device: CPU: a convolution agrees with numpy to [0-9]e-0[678]$", out, re.MULTILINE)
    assert "stage1 records: stage1_train 12, stage1_val 10 records" in out
    assert "stage2 sources: 0 of 2 there, make stage2 makes the others" in out
    assert "predictions: " in out


def test_each_failure_has_a_line_and_make_stops_there(bench, tmp_path, engine):
    bench.solver("stage1", "sick_stage1", net=bench.net("sick_net", ("mean_value: 103.939", "mean_value: 104.007")))
    bench.solver("stage2", "sick_stage2", net=bench.net("sicker_net", ('type: "Convolution"', 'type: "Convulsion"')))
    status, out, err = bench.run(engine, *bench.make(engine, "stage1", tmp_path / "run", prefix="sick_"))
    assert (status, list(tmp_path.glob("run/clean"))) == (2, [])
    failed = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert ["mean" in failed[0], "Convulsion" in failed[-1]] == [True, True]
    assert re.search(r"^error: \d of \d\d checks failed", err, re.MULTILINE)
