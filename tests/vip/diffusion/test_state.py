import multiprocessing

import torch

from vip.diffusion.state import State, States


def state(step):
    return State(step, step * 4, {"w": torch.full((3,), float(step))}, {"losses": []})


def test_the_states_of_a_longer_run_outlive_those_of_a_shorter_one(tmp_path):
    states = States(tmp_path)
    for step in (5, 6, 1, 2, 3):
        states.save(state(step))
    assert [one.step for one in map(states.latest, (9, 5, 4, 2)) if one] == [6, 5, 3, 2] and states.latest(1) is None
    states.save(state(7))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000006", "step-00000007"]


def save_many(folder, steps, ready):
    states = States(folder)
    ready.wait()
    for step in range(1, steps + 1):
        states.save(state(step))
        assert states.latest(steps) is not None


def test_two_trainings_may_write_and_read_the_same_states(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(2)
    writers = [spawn.Process(target=save_many, args=(tmp_path, 60, ready)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000059", "step-00000060"]


def test_what_a_killed_run_was_writing_goes_with_the_next_state(tmp_path):
    states = States(tmp_path)
    (tmp_path / ".draft-999999").mkdir()
    (tmp_path / ".draft-999999" / "tensors.safetensors").write_bytes(b"half")
    states.save(state(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "step-00000001"]


def test_two_states_are_kept_and_a_damaged_one_is_passed_over(tmp_path):
    states = States(tmp_path)
    for step in (1, 2, 3):
        states.save(state(step))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000002", "step-00000003"]
    file = tmp_path / "step-00000003" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    found = states.latest(9)
    assert found is not None and found.step == 2 and found.position == 8 and found.tensors["w"].tolist() == [2.0] * 3
    (tmp_path / "step-00000002" / "state.json").unlink()
    assert states.latest(9) is None
