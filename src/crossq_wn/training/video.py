"""Videos of trained policies: one episode as an mp4."""

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from crossq_wn import files
from crossq_wn.environments import Environment, Episode, TaskLike
from crossq_wn.environments.streams import kept_shared
from crossq_wn.errors import UserError, one_line, stated
from crossq_wn.real_time.pacing import Paced
from crossq_wn.training.policy import VIDEO, TrainedPolicy
from crossq_wn.training.seeds import Stream, integer, stream

_HEIGHT, _WIDTH = 240, 320  # pixels, where environments draw in any size


def record(
    policy: TrainedPolicy,
    out: Path,
    *,
    height: int | None = None,
    width: int | None = None,
    task: TaskLike | None = None,
) -> Episode:
    """Records one episode as an H.264 mp4 of 25 pictures per second, one picture per agent decision.

    Args:
        policy: the policy that plays.
        out: the file to write; missing folders are made.
        height: of the video in pixels; by default 240, or the environment's own.
        width: of the video in pixels; by default 320, or the environment's own.
        task: a class or function that makes the environment, where no module can be imported for it.

    Returns:
        The recorded episode.

    Raises:
        UserError: the environment renders nothing, or rendering does not work here.
    """
    import av

    with kept_shared(), closing(policy.environment(task, render=True)) as environment:
        episodes: list[Episode] = []
        size = _HEIGHT if height is None else height, _WIDTH if width is None else width
        pictures = _pictures(policy, environment, size, episodes)
        first = next(pictures)
        _tell_of_size(policy, first, height, width)
        film = io.BytesIO()
        with av.open(film, "w", format="mp4") as container:
            video: Any = container.add_stream("libx264", rate=25)
            # Encoders want even sizes.
            video.height, video.width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
            video.pix_fmt = "yuv420p"

            def encode(picture: np.ndarray) -> None:
                shown = np.ascontiguousarray(picture[: video.height, : video.width])
                for packet in video.encode(av.VideoFrame.from_ndarray(shown, "rgb24")):
                    container.mux(packet)

            encode(first)
            for picture in pictures:
                encode(picture)
            for packet in video.encode():
                container.mux(packet)
        if isinstance(environment, Paced):
            environment.tell(policy.warn)
    if out.is_relative_to(policy.path):
        files.make_folder(out.parent, within=policy.path)
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(out, film.getvalue())
    return episodes[0]


def _tell_of_size(policy: TrainedPolicy, picture: np.ndarray, height: int | None, width: int | None) -> None:
    """Tells of a size that was asked for in vain."""
    own = picture.shape[:2]
    for name, asked, there in (("height", height, own[0]), ("width", width, own[1])):
        if asked not in (None, there):
            drawn = f"{policy.config.task} draws pictures of its own size, {own[1]} x {own[0]} pixels"
            policy.warn(f"{stated(name, asked)}, which has no effect: {drawn}")


def _pictures(
    policy: TrainedPolicy, environment: Environment, size: tuple[int, int], episodes: list[Episode]
) -> Iterator[np.ndarray]:
    """Yields an episode's pictures, uint8 [height, width, 3]; appends the finished episode to `episodes`."""
    observation = environment.reset(integer(stream(policy.seed, Stream.FRESH, VIDEO)))
    yield _picture(environment, size)
    actors, states = policy.players
    memories = actors.fresh_memories(1)
    while not episodes:
        actions, memories = actors.exploit(states, memories, observation[None])
        result = environment.step(actions[0])
        observation = result.next_observation
        yield _picture(environment, size)
        if result.episode is not None:
            episodes.append(result.episode)


def _picture(environment: Environment, size: tuple[int, int]) -> np.ndarray:
    try:
        return environment.render(*size)
    except UserError:
        raise
    except Exception as error:  # of a driver, or of the environment's own renderer
        told = f"{environment.task.name} cannot be rendered here ({type(error).__name__}: {one_line(error)})"
        if environment.simulator.physics is not None:  # MuJoCo's renderer, which doctor examines
            told += ": `crossq-wn doctor` names the fix"
        raise UserError(told) from None
