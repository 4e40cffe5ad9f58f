"""One n-best list of those of several models."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfasr.decoding.hypotheses import NBest, best_first
from tfasr.decoding.language_model import NO_FUSION, Fusion, lm_score

ABSENT = -float("inf")


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One model of an ensemble and what it found.

    Args:
        name: For messages.
        pieces: The V surfaces of its tokens.
        nbest: Its hypotheses of the utterances.
        score: Scores any sequences as `nbest` is scored, such as `ctc_score` with its first two
            arguments bound: takes tokens [B, N, U] int32 and lengths [B, N] int32, gives [B, N]
            float32.
        weight: Of its scores; not negative.
    """

    name: str
    pieces: Sequence[str]
    nbest: NBest
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(
                f"weight must be finite and not negative; got weight={self.weight} of {self.name}"
            )


def combine(members: Sequence[Member], fusion: Fusion = NO_FUSION) -> NBest:
    """Scores every hypothesis of any member by the weighted sum of all members' scores.

    A member's own list says what it scores a hypothesis there; `score` is asked, once and for
    all hypotheses, what it scores the others. Comparing hypotheses takes B M² U bytes for M of
    all lists together: 8 MB for 16 utterances, three lists of 30 and 60 tokens.

    Args:
        members: Models with the same pieces.
        fusion: A language model and a bonus for each token.

    Returns:
        N = M hypotheses of each utterance; one that several members found stands once.

    Raises:
        ValueError: There is no member, or two have different pieces.
    """
    _check_vocabularies(members)
    tokens, num_tokens, found = _union([member.nbest for member in members])
    scores = tf.zeros(tf.shape(found))
    for member in members:
        own = _own_scores(member.nbest, tokens, num_tokens)
        own = tf.where(own > ABSENT, own, member.score(tokens, num_tokens))
        scores += tf.math.multiply_no_nan(own, member.weight)
    lm = lm_score(fusion.language_model, tokens, num_tokens)
    scores = fusion.fuse(scores, lm, num_tokens)
    return best_first(tokens, num_tokens, tf.where(found, scores, ABSENT))


def _check_vocabularies(members: Sequence[Member]) -> None:
    if not members:
        raise ValueError("an ensemble must have a member; got members=[]")
    one = members[0]
    for other in members[1:]:
        if len(one.pieces) != len(other.pieces):
            difference = (
                f"{len(one.pieces)} pieces of {one.name}, {len(other.pieces)} of {other.name}"
            )
            raise ValueError(f"members of an ensemble must share their pieces; got {difference}")
        for index, (mine, theirs) in enumerate(zip(one.pieces, other.pieces, strict=True)):
            if mine != theirs:
                raise ValueError(
                    "members of an ensemble must share their pieces; "
                    f"got piece {index} {mine!r} of {one.name}, {theirs!r} of {other.name}"
                )


def _union(lists: Sequence[NBest]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Joins lists to tokens [B, M, U], lengths [B, M] and, False for repeats, presence [B, M]."""
    longest = tf.reduce_max([tf.shape(nbest.tokens)[2] for nbest in lists])
    tokens = tf.concat([_widened(nbest.tokens, longest) for nbest in lists], 1)
    num_tokens = tf.concat([nbest.num_tokens for nbest in lists], 1)
    present = tf.concat([nbest.scores for nbest in lists], 1) > ABSENT
    same = _same(tokens, num_tokens, tokens, num_tokens) & present[:, None]  # [B, M, M]
    first = tf.argmax(same, 2, tf.int32)
    found = present & (first == tf.range(tf.shape(present)[1]))
    return tokens, num_tokens, found


def _own_scores(nbest: NBest, tokens: tf.Tensor, num_tokens: tf.Tensor) -> tf.Tensor:
    """A list's scores [B, M] of hypotheses; -inf for those that are not in it."""
    own = _widened(nbest.tokens, tf.shape(tokens)[2])
    same = _same(tokens, num_tokens, own, nbest.num_tokens)
    scores = tf.where(same, nbest.scores[:, None], ABSENT)  # [B, M, N]
    return tf.reduce_max(tf.pad(scores, [[0, 0], [0, 0], [0, 1]], constant_values=ABSENT), 2)


def _same(
    tokens: tf.Tensor, num_tokens: tf.Tensor, others: tf.Tensor, num_others: tf.Tensor
) -> tf.Tensor:
    equal = tf.reduce_all(tokens[:, :, None] == others[:, None], 3)  # [B, M, N]
    return equal & (num_tokens[:, :, None] == num_others[:, None])


def _widened(tokens: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    return tf.pad(tokens, [[0, 0], [0, 0], [0, width - tf.shape(tokens)[2]]])
