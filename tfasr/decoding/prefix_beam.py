"""CTC prefix beam search, batched and in the graph."""

from typing import NamedTuple

import tensorflow as tf

from tfasr.decoding.hypotheses import NBest, best_first
from tfasr.decoding.language_model import NO_FUSION, Fusion
from tfasr.decoding.prefix_keys import extended_key

NEVER = -float("inf")


class _Beams(NamedTuple):
    """W prefixes of each utterance, no two alive the same; one with no alignment is dead.

    Args:
        blank: [B, W] float32, log-probability of the alignments that end in the blank.
        token: [B, W] float32, of those that end in the prefix's last token.
        last: [B, W] int32, last token; V for the empty prefix.
        num_tokens: [B, W] int32.
        key: [B, W] int64, hash of the prefix.
        parent: [B, W] int64, hash of the prefix without its last token.
        lm_state: [B, W] int32.
        lm: [B, W] float32, log-probability by the language model.
    """

    blank: tf.Tensor
    token: tf.Tensor
    last: tf.Tensor
    num_tokens: tf.Tensor
    key: tf.Tensor
    parent: tf.Tensor
    lm_state: tf.Tensor
    lm: tf.Tensor


def prefix_beam_search(
    logits: tf.Tensor,
    num_frames: tf.Tensor,
    *,
    beam: int,
    token_beam: int,
    fusion: Fusion = NO_FUSION,
) -> NBest:
    """Searches the token sequences whose alignments together are most probable.

    Prefixes are ranked with the language model's score so far; its log-probability of the end
    is added after the last frame. With a beam that holds all prefixes the scores are exact.
    Without frames the one hypothesis is empty, with the score 0 and the end's.

    Equal prefixes are found by a 64-bit hash, their lengths and last tokens. Each frame compares
    `beam`² pairs: over a minute of speech, 1,500 frames, at a beam of 100, the chance that any
    pair is mistaken for equal is below 10⁻¹².

    Call it in a graph: eagerly, every operation of every frame is dispatched by itself. It holds
    8 B T `beam` bytes of back-pointers, about 16 B `beam` `token_beam` bytes of candidates and
    4 B `beam`² of comparisons at a time; beams up to a few hundred are practical.

    Args:
        logits: [B, T, V + 1] float, no NaN; the blank is V.
        num_frames: [B] int32, real frames.
        beam: Prefixes kept after each frame, and hypotheses returned.
        token_beam: Tokens tried as extensions in each frame, the most probable; the last token
            and the blank always are.
        fusion: A language model and a bonus for each token.

    Returns:
        N = `beam` hypotheses, with log p_ctc, fused.

    Raises:
        ValueError: A beam is less than 1.

    Source: Hannun et al. (2014), "First-Pass Large Vocabulary Continuous Speech Recognition
        using Bi-Directional Recurrent DNNs", algorithm 1; the bonus is added to the logarithm.
    """
    for name, value in (("beam", beam), ("token_beam", token_beam)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={value}")
    slots = tf.tile(tf.range(beam)[None], [tf.shape(logits)[0], 1])  # [B, W]
    first = _first(slots, tf.shape(logits)[2] - 1, fusion)
    beams, parents, symbols = _read(logits, num_frames, first, token_beam, fusion)
    finish = fusion.language_model.finish(beams.lm_state)
    scores = fusion.fuse(_total(beams), beams.lm + finish, beams.num_tokens)
    return best_first(_trace_back(slots, parents, symbols), beams.num_tokens, scores)


def _read(
    logits: tf.Tensor, num_frames: tf.Tensor, first: _Beams, token_beam: int, fusion: Fusion
) -> tuple[_Beams, tf.Tensor, tf.Tensor]:
    """Reads all frames: the prefixes after the last, and `_advance`'s slots and tokens.

    These are [T + 1, B, W] int32. Entry 0 stands before the first frame: a stack of nothing
    would have no shape.
    """
    most, beam = tf.shape(logits)[1], first.last.shape[1]
    slots = tf.zeros_like(first.last) + tf.range(beam)
    parents, symbols = (
        tf.TensorArray(tf.int32, most + 1, element_shape=(None, beam)).write(0, entry)
        for entry in (slots, -tf.ones_like(slots))
    )

    def advance(
        frame: tf.Tensor, beams: _Beams, parents: tf.TensorArray, symbols: tf.TensorArray
    ) -> tuple[tf.Tensor, _Beams, tf.TensorArray, tf.TensorArray]:
        scores = tf.nn.log_softmax(tf.cast(logits[:, frame], tf.float32))
        after, slot, symbol = _advance(beams, scores, token_beam, fusion)
        real = (frame < num_frames)[:, None]
        after = _Beams(*(tf.where(real, new, old) for new, old in zip(after, beams, strict=True)))
        parents = parents.write(frame + 1, tf.where(real, slot, slots))
        symbols = symbols.write(frame + 1, tf.where(real, symbol, -1))
        return frame + 1, after, parents, symbols

    _, beams, parents, symbols = tf.while_loop(
        lambda frame, *_: frame < most, advance, (tf.constant(0), first, parents, symbols)
    )
    return beams, parents.stack(), symbols.stack()


def _first(slots: tf.Tensor, vocabulary: tf.Tensor, fusion: Fusion) -> _Beams:
    zeros, floats = tf.zeros_like(slots), tf.zeros(tf.shape(slots))
    never = floats + NEVER
    return _Beams(
        blank=tf.where(slots == 0, 0.0, never),
        token=never,
        last=zeros + vocabulary,
        num_tokens=zeros,
        key=tf.cast(zeros, tf.int64),
        parent=tf.cast(zeros, tf.int64),
        lm_state=zeros + fusion.language_model.start(),
        lm=floats,
    )


def _advance(
    beams: _Beams, scores: tf.Tensor, token_beam: int, fusion: Fusion
) -> tuple[_Beams, tf.Tensor, tf.Tensor]:
    """Reads one frame.

    Args:
        beams: Before the frame.
        scores: [B, V + 1] float32, the frame's log-probabilities.
        token_beam: Tokens tried.
        fusion: Ranks.

    Returns:
        The prefixes after it; for each [B, W] the slot that it comes from and the token that it
        gained, -1 for none.
    """
    size, beam = tf.shape(beams.last)[0], beams.last.shape[1]
    tried = tf.minimum(token_beam, tf.shape(scores)[1] - 1)
    token_scores, tokens = tf.math.top_k(scores[:, :-1], tried)  # [B, K]
    blank, token, merged = _stay(beams, scores, tokens)

    again = tokens[:, None] == beams.last[:, :, None]  # [B, W, K]
    # A token repeated without a blank in between stays one token.
    before = tf.where(again, beams.blank[:, :, None], _total(beams)[:, :, None])
    extended = tf.where(merged, NEVER, before + token_scores[:, None])  # [B, W, K]
    tokens = tf.broadcast_to(tokens[:, None], tf.shape(extended))
    states = tf.broadcast_to(beams.lm_state[:, :, None], tf.shape(extended))
    states, lm = fusion.language_model.step(states, tokens)

    def with_extensions(stayed: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        return tf.concat([stayed, tf.reshape(new, [size, beam * tried])], 1)  # [B, W + W K]

    lm = with_extensions(beams.lm, beams.lm[:, :, None] + lm)
    num_tokens = with_extensions(
        beams.num_tokens, tf.broadcast_to(beams.num_tokens[:, :, None] + 1, tf.shape(extended))
    )
    totals = with_extensions(_log_add(blank, token), extended)
    kept = tf.math.top_k(fusion.fuse(totals, lm, num_tokens), beam).indices  # [B, W]

    is_new = kept >= beam
    slot = tf.where(is_new, (kept - beam) // tf.maximum(tried, 1), kept)
    key, parent = (tf.gather(x, slot, batch_dims=1) for x in (beams.key, beams.parent))
    last = tf.gather(with_extensions(beams.last, tokens), kept, batch_dims=1)
    after = _Beams(
        blank=tf.where(is_new, NEVER, tf.gather(blank, slot, batch_dims=1)),
        token=tf.gather(with_extensions(token, extended), kept, batch_dims=1),
        last=last,
        num_tokens=tf.gather(num_tokens, kept, batch_dims=1),
        key=tf.where(is_new, extended_key(key, last), key),
        parent=tf.where(is_new, key, parent),
        lm_state=tf.gather(with_extensions(beams.lm_state, states), kept, batch_dims=1),
        lm=tf.gather(lm, kept, batch_dims=1),
    )
    return after, slot, tf.where(is_new, last, -1)


def _stay(
    beams: _Beams, scores: tf.Tensor, tokens: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gives the prefixes as they are another frame, with what extends others to the same.

    Args:
        beams: Before the frame.
        scores: [B, V + 1] float32.
        tokens: [B, K] int32, those tried as extensions.

    Returns:
        [B, W] log-probabilities of the alignments that end in the blank and in the last token;
        [B, W, K] bool, True where an extension is accounted for here.
    """
    total = _total(beams)
    last_scores = tf.gather(scores, beams.last, batch_dims=1)  # [B, W]
    # Row j says which prefix is j without its last token.
    extends = (
        (beams.parent[:, :, None] == beams.key[:, None])
        & (beams.num_tokens[:, :, None] == beams.num_tokens[:, None] + 1)
        & (total > NEVER)[:, :, None]
    )  # [B, W, W]
    again = beams.last[:, :, None] == beams.last[:, None]
    source = tf.where(again, beams.blank[:, None], total[:, None])
    source = tf.reduce_max(tf.where(extends, source, NEVER), 2)  # [B, W]
    gained = tokens[:, None] == beams.last[:, :, None]  # [B, W, K]
    merged = tf.matmul(
        tf.cast(extends, tf.float32), tf.cast(gained, tf.float32), transpose_a=True
    )  # [B, W, K]
    blank = total + scores[:, -1:]
    return blank, _log_add(beams.token, source) + last_scores, merged > 0


def _total(beams: _Beams) -> tf.Tensor:
    return _log_add(beams.blank, beams.token)


def _log_add(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(tf.stack([a, b]), 0)


def _trace_back(slots: tf.Tensor, parents: tf.Tensor, symbols: tf.Tensor) -> tf.Tensor:
    """Collects the tokens [B, W, U] that the prefixes gained, from [T + 1, B, W] each."""

    def back(
        after: tuple[tf.Tensor, tf.Tensor], entry: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        return tuple(tf.gather(x, after[0], batch_dims=1) for x in entry)

    _, path = tf.scan(back, (parents, symbols), (slots, slots), reverse=True)  # [T + 1, B, W]
    path = tf.transpose(path, [1, 2, 0])
    tokens = tf.ragged.boolean_mask(path, path >= 0)
    return tokens.to_tensor()
