"""Sums in the order of Caffe's BLAS, bit for bit: torchcaffe.blas and torchcaffe.libm against OpenBLAS 0.3.13 and glibc 2.31."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from torchcaffe import blas, libm

from . import blas_cases, live

pytestmark = [pytest.mark.caffe,
              pytest.mark.skipif("OPENBLAS_CORETYPE" not in live.environment(), reason="the processor has no AVX2 and FMA")]


@pytest.fixture(scope="module")
def theirs(real_caffe, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("blas") / "caffe.npz")
    subprocess.run([real_caffe, "-m", "tests.parity.blas_cases", out], cwd=live.ROOT, env=live.environment(), check=True)
    with np.load(out) as found:
        return dict(found)


@pytest.fixture
def exact():
    if not blas.is_exact():
        pytest.skip("neither torch's nor numpy's products add in Caffe's order on this processor")


def differing(theirs, what, compute, most=float("inf")):
    return [name for name, a, b in blas_cases.shapes() if len(a) * b.size <= most
            and not np.array_equal(compute(torch.from_numpy(a), torch.from_numpy(b)).numpy(), theirs[f"{name} {what}"])]


def test_products_of_single_multiply_adds(theirs, live_cases, monkeypatch):
    """What is cut how, with products that add one factor after the other on any processor."""
    def slow(a, b):
        total = torch.zeros(*a.shape[:-1], b.shape[-1])
        for i in range(a.shape[-1]):
            total = (a[..., i, None].double() * b[..., i, None, :].double() + total).float()
        return total
    monkeypatch.setattr(blas, "_chosen", [slow])
    assert differing(theirs, "product", blas.multiply, 300_000) == []
    live_cases(sum(len(a) * b.size <= 300_000 for _, a, b in blas_cases.shapes()))


@pytest.mark.usefixtures("exact")
def test_products(theirs, live_cases):
    assert differing(theirs, "product", blas.multiply) == []
    assert differing(theirs, "transposed", lambda a, b: blas.multiply(a, b.t().contiguous().t())) == []
    live_cases(2 * blas_cases.COUNT)


def test_a_processor_with_avx2_only(theirs, live_cases, tmp_path):
    """There torch's products add otherwise, and numpy's are taken."""
    np.savez(tmp_path / "theirs.npz", **theirs)
    code = ("import sys, numpy as np, torch; from torchcaffe import blas; from tests.parity import blas_cases, test_tc_blas\n"
            "print(test_tc_blas.differing(np.load(sys.argv[1]), 'product', blas.multiply))")
    environment = {**os.environ, "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "theirs.npz")], cwd=live.ROOT, env=environment,
                         capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    live_cases(blas_cases.COUNT)


@pytest.mark.usefixtures("exact")
def test_products_of_a_batch(theirs, live_cases):
    """Each is what it is alone, and the parts add up to their sum, one picture after the other."""
    def summed(a, b):
        pair = torch.stack((torch.zeros_like(a), a)), torch.stack((b, b))
        assert torch.equal(blas.multiply(*pair)[1], blas.multiply(a, b))
        return blas.add_up(blas.product_parts(*pair))
    assert differing(theirs, "product", summed) == []
    live_cases(blas_cases.COUNT)


def test_sums_of_rows_and_columns(theirs, live_cases):
    assert differing(theirs, "rows", lambda a, b: blas.add_up(blas.row_sum_parts(a[None]), torch.zeros(len(a)))) == []
    assert differing(theirs, "columns", lambda a, b: blas.add_columns(torch.zeros(b.shape[1]), b)) == []
    live_cases(2 * blas_cases.COUNT)


def test_sums_of_squares(theirs, live_cases):
    assert differing(theirs, "squares", lambda a, b: blas.sum_squares(b)) == []
    live_cases(blas_cases.COUNT)


@pytest.mark.parametrize("name", blas_cases.FUNCTIONS)
def test_functions(theirs, live_cases, name):
    functions = {"exp": libm.exp, "log": libm.log}
    x = torch.from_numpy(blas_cases.arguments(name))
    found = functions[name](x) if name in functions else libm.power(x, blas_cases.EXPONENTS[name])
    np.testing.assert_array_equal(found.numpy(), theirs[name])
    live_cases()
