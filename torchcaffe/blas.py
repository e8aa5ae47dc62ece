"""Products and sums that add up in the order of Caffe's BLAS, so that they round as Caffe's do.

Caffe's numbers depend in their last digits on the order in which OpenBLAS adds, and where a ReLU or a maximum meets a near
tie, the last digit decides. The order here is that of OpenBLAS 0.3.13 with its kernels for AVX2 and FMA (`HASWELL`; `ZEN`
shares them) in one thread. On processors with AVX-512, torch's own products add one factor after the other with fused
multiply-adds, in any shape but those that `_product` goes around, and the rest is a matter of cutting them into BLAS's pieces.
On those with AVX2 only, numpy's are OpenBLAS's with the same kernels. `_choose` finds out which of the two is right here.

BLAS counts column by column: what it calls the rows of a product are the columns of torch's.
"""
from functools import lru_cache, reduce
from typing import Any, Callable, Iterator, List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_WIDTH = _DEPTH = 320  # columns that are computed, and factors that are added up, at a time (SGEMM_DEFAULT_P and _Q)
_TILE = 8              # columns of a tile
_BATCH_LEAST = 400     # multiply-adds, at least, of each product in a batch that torch hands to its own BLAS
_PROBES = ((20, 100, 340), (9, 320, 30), (4, 27, 5), (8, 27, 1000), (16, 288, 196), (72, 8, 640), (3, 64, 8), (64, 320, 24),
           (12, 320, 500))  # n, k and m of products that are tried
_SUM_BLOCK = 4096      # rows or columns that a sum takes at a time (NBMAX of sgemv_t_4.c and sgemv_n_4.c)


def add_up(parts: Tensor, start: Optional[Tensor] = None) -> Tensor:
    """Return the sum of a float32 tensor along its first axis, rounded after each part; it begins with `start` if given."""
    parts = parts if start is None else torch.cat((start[None], parts))
    if len(parts) == 1:
        return parts[0]
    rows = parts.contiguous().numpy()  # numpy adds row to row along an axis that is not the innermost
    return torch.as_tensor(np.add.reduce(rows, 0) if parts[0].numel() > 1 else np.add.accumulate(rows, 0)[-1])


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of `a` (n x k) and `b` (k x m), either of them with a batch axis in front (``cblas_sgemm``)."""
    return reduce(torch.add, _parts(a, b).unbind(-3))


def product_parts(a: Tensor, b: Tensor) -> Tensor:
    """Return what adds up to the sum of a batch of products, in the order of adding: parts x n x m."""
    return _parts(a, b).flatten(0, -3)


def _parts(a: Tensor, b: Tensor) -> Tensor:
    """Return products of blocks of factors; where BLAS's tile has registers for both, even and odd factors are added apart.

    A factor that is put to zero changes no sum of finite numbers, so the same product gives the sums of even and of odd ones.
    """
    (n, depth), m = a.shape[-2:], b.shape[-1]
    regions = _apart(n, m) if depth >= 8 else []
    everywhere = any(rows == slice(0, n) and columns == slice(0, m) for rows, columns, _ in regions)
    parts = torch.empty(0) if everywhere else _in_blocks(a, b)
    for rows, columns, where in regions:
        halves = (a[..., rows, :].unsqueeze(-3) * _even_and_odd(depth)).flatten(-3, -2)
        pairs = torch.add(*_in_blocks(halves, b[..., columns]).chunk(2, -2))
        if everywhere:
            return pairs
        parts[..., rows, columns] = pairs if where is None else torch.where(where, pairs, parts[..., rows, columns])
    return parts


@lru_cache(maxsize=256)
def _even_and_odd(depth: int) -> Tensor:
    """Return masks, 2 x 1 x depth, of the even factors, with those that are left of a multiple of eight, and of the odd ones."""
    odd = torch.arange(depth) % 2 * (torch.arange(depth) < depth // 8 * 8)
    return torch.stack((1 - odd, odd)).float()[:, None]


def _in_blocks(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of the blocks of factors that BLAS adds up at a time: ... x blocks x n x m."""
    transposed = b.stride(-1) != 1 and b.shape[-1] > 1
    if transposed and (_chosen or _choose())[0] is _by_torch:  # it adds in another order where the second factor lies so
        return _in_blocks(b.mT, a.mT.contiguous()).mT
    cuts = list(_cut(a.shape[-1], _DEPTH))
    if a.dim() == b.dim() == 3 and len(cuts) > 3 * len(a):  # fewer calls of torch
        return torch.stack([_blocks_at_once(one, other, cuts) for one, other in zip(a, b)])
    products = [_product(a[..., start:stop], b[..., start:stop, :]) for start, stop in cuts]
    return products[0].unsqueeze(-3) if len(products) == 1 else torch.stack(products, -3)


def _blocks_at_once(a: Tensor, b: Tensor, cuts: List[Tuple[int, int]]) -> Tensor:
    count = sum(stop - start == _DEPTH for start, stop in cuts)
    end = count * _DEPTH
    whole = _product(a[:, :end].view(len(a), count, _DEPTH).transpose(0, 1), b[:end].view(count, _DEPTH, -1))
    return torch.cat((whole, *(_product(a[:, start:stop], b[start:stop])[None] for start, stop in cuts[count:])))


def _cut(length: int, most: int) -> Iterator[Tuple[int, int]]:
    """Yield the blocks of a length: as long as possible, but two of about equal length at the end (level3.c)."""
    start = 0
    while start < length:
        left = length - start
        size = most if left >= 2 * most else left if left <= most else (left // 2 + _TILE - 1) // _TILE * _TILE
        yield start, start + size
        start += size


@lru_cache(maxsize=256)
def _apart(n: int, m: int) -> List[Tuple[slice, Any, Optional[Tensor]]]:
    """Return where in a product of n x m even and odd factors are added apart: rows, columns, and where among them if not all.

    That follows from the tiles of sgemm_kernel_8x4_haswell_2.c and the panels of level3.c. Rows are cut into tiles of twelve,
    then eight, four, two and one; in the first block of columns, of two times four instead of eight. Tiles of four rows and
    eight columns are added apart. So are those of twelve rows, in one half of the first and of the last eight columns of a
    block, which have no neighbour to be computed with.
    """
    blocks = list(_cut(m, _WIDTH))
    start, rest = n // 12 * 12, n % 12
    end = (blocks[0][1] if rest >= 8 else m) // _TILE * _TILE
    regions: List[Tuple[slice, Any, Optional[Tensor]]] = []
    if rest >= 4 and end:
        regions.append((slice(start, start + rest // 4 * 4), slice(0, end), None))
    edges = [(lo, hi // _TILE * _TILE - _TILE) for lo, hi in blocks if hi - lo >= 2 * _TILE]
    if start and edges:
        columns = torch.cat([at + torch.arange(_TILE) for edge in edges for at in edge])
        upper = torch.arange(start)[:, None] % 12 < 6
        halves = [h for lo, last in edges for h in (upper, upper if (last - lo) // _TILE % 2 else ~upper)]
        regions.append((slice(0, start), columns, torch.cat([h.expand(start, _TILE) for h in halves], 1)))
    return regions


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply in a shape for which one factor is added after the other: not as vectors."""
    n, m = a.shape[-2], b.shape[-1]
    a = F.pad(a, (0, 0, 0, 1)) if n == 1 else a
    b = F.pad(b, (0, 1)) if m == 1 else b
    return (_chosen or _choose())[0](a, b)[..., :n, :m]


def _by_torch(a: Tensor, b: Tensor) -> Tensor:
    """Multiply by torch, whose small products in a batch are not those of its BLAS: they are made larger."""
    if a.dim() == b.dim() == 2:
        return a @ b
    (n, k), m = a.shape[-2:], b.shape[-1]
    more = -(-_BATCH_LEAST // (n * k)) - m
    b = F.pad(b, (0, more)) if more > 0 else b
    count = len(a) if a.dim() == 3 else len(b)
    return torch.bmm(a.expand(count, -1, -1), b.expand(count, -1, -1))[..., :m]


def _by_numpy(a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))


_chosen: List[Callable[[Tensor, Tensor], Tensor]] = []


def is_exact() -> bool:
    """Return whether products add in the order of Caffe's BLAS here, as far as can be told from trying some."""
    return _count_right((_chosen or _choose())[0]) == len(_PROBES)


def _choose() -> List[Callable[[Tensor, Tensor], Tensor]]:
    """Find which products add as Caffe's BLAS does most often; on other processors than x86-64's neither may."""
    _chosen[:] = [max((_by_numpy, _by_torch), key=_count_right)]
    return _chosen


def _count_right(product: Callable[[Tensor, Tensor], Tensor]) -> int:
    """Return how many products are right, alone, in a batch, and with the second factor transposed."""
    _chosen[:] = [product]
    return sum(torch.equal(multiply(a, b), right) and torch.equal(multiply(a, b.t().contiguous().t()), right)
               and torch.equal(multiply(torch.stack((a, a)), torch.stack((b, b)))[1], right) for a, b, right in _probes())


@lru_cache(maxsize=1)
def _probes() -> List[Tuple[Tensor, Tensor, Tensor]]:
    """Return pairs of factors and their products in BLAS's order."""
    numbers = np.random.RandomState(1)
    pairs = [[torch.from_numpy(numbers.randn(*shape).astype(np.float32)) for shape in ((n, k), (k, m))] for n, k, m in _PROBES]
    return [(a, b, _one_by_one(a, b)) for a, b in pairs]


def _one_by_one(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of one block of factors, rounded after each multiply-add, in BLAS's order."""
    (n, depth), m = a.shape, b.shape[1]
    factors = torch.cat((torch.ones(1, 1, depth), _even_and_odd(depth))) * a
    sums = torch.zeros(3, n, m)
    for i in range(depth):
        sums = (factors[..., i, None].double() * b[i].double() + sums).float()
    whole, pairs = sums[0], sums[1] + sums[2]
    for rows, columns, where in _apart(n, m):
        apart = pairs[rows, columns]
        whole[rows, columns] = apart if where is None else torch.where(where, apart, whole[rows, columns])
    return whole


def row_sum_parts(x: Tensor) -> Tensor:
    """Return what adds up to the sum of a batch of the sums of rows, in the order of adding (``cblas_sgemv``).

    Parameters
    ----------
    x : Tensor
        Batch x n x m; the parts are parts x n.
    """
    n, m = x.shape[-2:]
    whole = m // 4 * 4
    parts = []
    for start in range(0, whole, _SUM_BLOCK):
        fours, two, one = torch.split(x[..., start:min(start + _SUM_BLOCK, whole)], [n // 4 * 4, n % 4 // 2 * 2, n % 2], -2)
        parts.append(torch.cat((_in_lanes(fours, 8), _in_lanes(two, 4), _in_lanes(one, 8)), -1))
    if m > whole:
        parts.append(add_up(x[..., whole:].movedim(-1, 0)))
    return torch.stack(parts, -2).flatten(0, -2)


def _in_lanes(x: Tensor, lanes: int) -> Tensor:
    """Sum the last axis in the lanes of a register; what does not fill it comes first (sgemv_t_microk_haswell-4.c)."""
    short = x.shape[-1] % lanes
    if short:
        x = torch.cat((F.pad(x[..., :short], (0, lanes - short)), x[..., short:]), -1)
    total = add_up(x.reshape(*x.shape[:-1], x.shape[-1] // lanes, lanes).movedim(-2, 0))
    total = total[..., :4] + total[..., 4:] if lanes == 8 else total
    return (total[..., 0] + total[..., 1]) + (total[..., 2] + total[..., 3])


def add_columns(start: Tensor, x: Tensor) -> Tensor:
    """Return `start` (m) plus the sums of the columns of `x` (n x m) (``cblas_sgemv``, transposed: sgemv_n_4.c)."""
    whole = x.shape[1] // 4 * 4
    blocks = [slice(at, min(at + _SUM_BLOCK, whole)) for at in range(0, whole, _SUM_BLOCK)]
    last = start[whole:] + _sum_last_columns(x[:, whole:], x.shape[1])
    return torch.cat((*(_add_fours(start[block], x[:, block]) for block in blocks), last))


def sum_squares(x: Tensor) -> Tensor:
    """Return the sum of squares (``cblas_sdot``): in 32 lanes, and in double precision what does not fill them (sdot.c)."""
    values = x.flatten()
    whole = len(values) // 32 * 32
    rest = values[whole:].square().double().sum()
    if not whole:
        return rest.float()
    total, one = torch.zeros(32, 1, 1), torch.ones(32, 1, 1)
    for block in values[:whole].view(-1, 32).t()[:, None].chunk(-(-whole // 32 // (_DEPTH - 1)), 2):
        total = _product(torch.cat((total, block), 2), torch.cat((one, block), 2).mT)
    halves = total.view(4, 8)[:, :4] + total.view(4, 8)[:, 4:]
    four = (halves[0] + halves[1]) + (halves[2] + halves[3])
    return (rest + ((four[0] + four[1]) + (four[2] + four[3]))).float()


def sum_classes(x: Tensor) -> Tensor:
    """Return the sums of outer x classes x inner along the classes, each of the outer ones as `add_columns` does."""
    inner = x.shape[2]
    if inner == 1:
        return _sum_last_columns(x[..., 0].t(), 1)[:, None]
    return torch.stack([add_columns(torch.zeros(inner), each) for each in x])


def _add_fours(total: Tensor, x: Tensor) -> Tensor:
    """Add up columns, eight and four rows at a time; even and odd rows apart in columns that do not fill two registers."""
    n, m = x.shape
    row = 0
    for rows in [8] * (n // 8) + [4] * (n % 8 // 4) + [1] * (n % 4):
        some = x[row:row + rows]
        part = add_up(some)
        if rows > 1:
            part = torch.cat(((add_up(some[::2]) + add_up(some[1::2]))[:m % 16], part[m % 16:]))
        total, row = total + part, row + rows
    return total


def _sum_last_columns(x: Tensor, m: int) -> Tensor:
    """Sum the one to three columns that are left of m; rows in twos or fours where there are no other columns."""
    size = {1: 4, 2: 2, 3: 2}.get(m, 1)
    whole = len(x) // 4 * 4
    groups = add_up(x[:whole].reshape(whole // size, size, x.shape[1]).movedim(1, 0)) if whole else x[:0]
    return add_up(torch.cat((groups, x[whole:])), torch.zeros(x.shape[1]))
