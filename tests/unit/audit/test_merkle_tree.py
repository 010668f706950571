"""The Merkle tree against the published vectors and against the definition written out."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import pytest

from shared.audit.tree import (
    EMPTY_ROOT,
    Edge,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The reference tree of Certificate Transparency (RFC 6962, unchanged in RFC 9162).
CONTENTS = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
LEAVES = [hash_leaf(bytes.fromhex(content)) for content in CONTENTS]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {
    (0, 1): [],
    (0, 8): [A, B, C],
    (3, 8): ["0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7", ROOTS[2], C],
    (5, 8): [D, E, ROOTS[4]],
    (7, 8): ["b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f", F, ROOTS[4]],
    (2, 3): [ROOTS[2]],
    (1, 5): [ROOTS[1], B, D],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [A, B, C],
    (6, 8): [F, E, ROOTS[4]],
    (2, 5): [B, D],
}

LARGEST = 300
MANY = [hash_leaf(str(number).encode()) for number in range(LARGEST)]


def hexes(hashes):
    return [one.hex() for one in hashes]


@cache
def naive_root(low: int, high: int) -> bytes:
    """MTH of MANY[low:high], word for word as section 2.1.1 defines it."""
    if high == low:
        return sha256(b"").digest()
    if high - low == 1:
        return MANY[low]
    k = naive_split(high - low)
    return sha256(b"\x01" + naive_root(low, low + k) + naive_root(low + k, high)).digest()


def naive_split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def naive_path(m: int, low: int, high: int) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if high - low == 1:
        return []
    k = naive_split(high - low)
    if m < k:
        return [*naive_path(m, low, low + k), naive_root(low + k, high)]
    return [*naive_path(m - k, low + k, high), naive_root(low, low + k)]


def naive_subproof(m: int, low: int, high: int, *, is_whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.4.1."""
    if m == high - low:
        return [] if is_whole else [naive_root(low, high)]
    k = naive_split(high - low)
    if m <= k:
        return [*naive_subproof(m, low, low + k, is_whole=is_whole), naive_root(low + k, high)]
    return [*naive_subproof(m - k, low + k, high, is_whole=False), naive_root(low, low + k)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size):
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index, size):
    proof = inclusion_proof(index, LEAVES[:size])
    assert hexes(proof) == INCLUSION[index, size]
    assert verify_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("older", "newer"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(older, newer):
    proof = consistency_proof(older, LEAVES[:newer])
    assert hexes(proof) == CONSISTENCY[older, newer]
    roots = bytes.fromhex(ROOTS[older]), bytes.fromhex(ROOTS[newer])
    assert verify_consistency(older, newer, proof, *roots)


def test_every_root_up_to_300_is_the_naive_one_and_its_edge_is_short():
    edge = Edge()
    assert edge.root() == EMPTY_ROOT
    for size in range(1, LARGEST + 1):
        edge.append(MANY[size - 1])
        assert edge.root() == naive_root(0, size)
        assert len(edge.hashes) == size.bit_count()


@pytest.mark.timeout(300)
def test_every_index_of_every_size_up_to_300_has_the_naive_proof_and_it_verifies():
    for size in range(1, LARGEST + 1):
        leaves, root = MANY[:size], naive_root(0, size)
        for index in range(size):
            proof = inclusion_proof(index, leaves)
            assert proof == naive_path(index, 0, size)
            assert verify_inclusion(leaves[index], index, size, proof, root)


@pytest.mark.timeout(300)
def test_every_pair_of_sizes_has_the_naive_consistency_proof_and_it_verifies():
    for newer in range(1, LARGEST + 1, 7):
        leaves, root = MANY[:newer], naive_root(0, newer)
        for older in range(1, newer + 1):
            proof = consistency_proof(older, leaves)
            assert proof == naive_subproof(older, 0, newer, is_whole=True)
            assert verify_consistency(older, newer, proof, naive_root(0, older), root)


def test_a_proof_of_anything_else_is_refused():
    size = 37
    root = naive_root(0, size)
    for index in range(size):
        leaf, proof = MANY[index], inclusion_proof(index, MANY[:size])
        refused = [
            (MANY[index + 1], index, size, proof, root),
            (leaf, index + 1, size, proof, root),
            (leaf, index, size, proof[:-1], root),
            (leaf, index, size, [*proof, root], root),
            (leaf, index, size, [bytes(32), *proof[1:]], root),
            (leaf, index, size, proof, naive_root(0, size + 1)),
            (leaf, size, size, proof, root),
            (leaf, -1, size, proof, root),
        ]
        assert not any(verify_inclusion(*attempt) for attempt in refused)


def test_a_tree_that_does_not_extend_the_older_one_is_refused():
    newer = 37
    root = naive_root(0, newer)
    for older in range(1, newer):
        proof, first = consistency_proof(older, MANY[:newer]), naive_root(0, older)
        refused = [
            (older, newer, proof, naive_root(1, older + 1), root),
            (older, newer, proof, first, naive_root(1, newer + 1)),
            (older, newer, proof[:-1], first, root),
            (older, newer, [*proof, root], first, root),
            (older, older, proof, first, first),
            (newer, older, proof, root, first),
            (0, newer, proof, EMPTY_ROOT, root),
        ]
        assert not any(verify_consistency(*attempt) for attempt in refused)
        assert not verify_consistency(older, newer, [], first, root)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_of_what_is_not_there(index, size):
    with pytest.raises(IndexError, match=f"{size} leaves"):
        inclusion_proof(index, MANY[:size])


@pytest.mark.parametrize(("older", "newer"), [(0, 3), (4, 3)])
def test_there_is_no_proof_of_a_larger_or_an_empty_older_tree(older, newer):
    with pytest.raises(IndexError, match=f"{newer} leaves"):
        consistency_proof(older, MANY[:newer])
