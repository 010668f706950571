"""The Merkle tree of RFC 9162 section 2.1: hashes, the right edge, proofs and their checks. Pure.

Hashes are SHA-256, 32 bytes. Leaves and nodes are hashed with different first bytes, so that
none can be passed off as the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

EMPTY_ROOT = sha256(b"").digest()


def hash_leaf(content: bytes) -> bytes:
    return sha256(b"\x00" + content).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


@dataclass
class Edge:
    """
    A tree as far as appending needs it: the roots of its complete subtrees, largest first.

    There is one per set bit of `size`, so that a leaf costs one hash on average.

    Attributes:
        size: Number of leaves.
        hashes: Roots of the complete subtrees.
    """

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, leaves: Iterable[bytes]) -> Self:
        edge = cls()
        for leaf in leaves:
            edge.append(leaf)
        return edge

    def append(self, leaf: bytes) -> None:
        """Add the hash of one more leaf."""
        merges = self.size
        while merges & 1:
            leaf = hash_node(self.hashes.pop(), leaf)
            merges >>= 1
        self.hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for left in reversed(rest):
            root = hash_node(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """MTH of leaf hashes."""
    return Edge.of(leaves).root()


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """
    PATH(index, D_n): what is hashed with the leaf on the way to the root, nearest first.

    Raises:
        IndexError: The tree has no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"a tree of {len(leaves)} leaves has no leaf {index}")
    low, high, proof = 0, len(leaves), list[bytes]()
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(root_of(leaves[middle:high]))
            high = middle
        else:
            proof.append(root_of(leaves[low:middle]))
            low = middle
    return proof[::-1]


def consistency_proof(size: int, leaves: Sequence[bytes]) -> list[bytes]:
    """
    PROOF(size, D_n): that the tree of all leaves extends the tree of the first *size* of them.

    Raises:
        IndexError: The older tree is empty or larger than the newer.
    """
    if not 0 < size <= len(leaves):
        raise IndexError(f"a tree of {len(leaves)} leaves extends none of {size}")
    low, high, proof = 0, len(leaves), list[bytes]()
    while size != high:
        middle = low + _split(high - low)
        if size <= middle:
            proof.append(root_of(leaves[middle:high]))
            high = middle
        else:
            proof.append(root_of(leaves[low:middle]))
            low = middle
    # The verifier has the older root itself, unless that tree was split on the way.
    return ([root_of(leaves[low:high])] if low else []) + proof[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether *leaf* is number *index* of the tree of *size* with *root*; section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    number, last = index, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if number & 1 or number == last:
            leaf = hash_node(sibling, leaf)
            number, last = _up_to_right_child(number, last)
        else:
            leaf = hash_node(leaf, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and leaf == root


def verify_consistency(
    size: int, newer_size: int, proof: Sequence[bytes], root: bytes, newer_root: bytes
) -> bool:
    """Whether the newer tree extends the older, not empty one; section 2.1.4.2."""
    if size == newer_size:
        return not proof and root == newer_root
    if not 0 < size < newer_size:
        return False
    # An older tree that is complete is a node of the newer one, so its root is not sent.
    path = [root, *proof] if size & (size - 1) == 0 else list(proof)
    if not path:
        return False
    number, last = size - 1, newer_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    older = newer = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            older, newer = hash_node(sibling, older), hash_node(sibling, newer)
            number, last = _up_to_right_child(number, last)
        else:
            newer = hash_node(newer, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and older == root and newer == newer_root


def _up_to_right_child(number: int, last: int) -> tuple[int, int]:
    """Skip the levels on which the last node has no sibling and is carried up as it is."""
    while number and not number & 1:
        number, last = number >> 1, last >> 1
    return number, last


def _split(size: int) -> int:
    """The largest power of two below *size*, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1
