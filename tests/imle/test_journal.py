import pytest

from imle.journal import Journal


def epochs(path):
    return [row["epoch"] for row in Journal(path).rows()]


def test_rows_come_once_and_in_order_whatever_was_there(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    first = Journal(path)
    for epoch in (1, 2, 3):
        first.append({"epoch": epoch, "loss": 0.5})
    resumed = Journal(path)  # the checkpoint was older than the last row
    resumed.append({"epoch": 3, "loss": 0.25})
    resumed.append({"epoch": 4, "loss": 0.125})
    assert epochs(path) == [1, 2, 3, 4]
    assert Journal(path).rows()[2]["loss"] == 0.25


def test_a_line_cut_by_a_crash_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    Journal(path).append({"epoch": 1})
    with path.open("a") as file:
        file.write('{"epoch": 2, "lo')
    assert epochs(path) == [1]
    Journal(path).append({"epoch": 2})
    assert epochs(path) == [1, 2]


def test_figures_are_added_to_the_last_row_only(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.extend(1, {"score": 1.0})  # nothing there yet
    assert not journal.path.exists()
    for epoch in (1, 2):
        journal.append({"epoch": epoch, "loss": 0.1})
    journal.extend(2, {"score": 0.5})
    journal.extend(1, {"score": 9.0})
    journal.append({"epoch": 3})
    assert journal.rows() == [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 0.1, "score": 0.5}, {"epoch": 3}]
    journal.append({"epoch": 2, "loss": 0.2})  # trained again, without the score
    assert Journal(journal.path).rows()[1:] == [{"epoch": 2, "loss": 0.2}]


@pytest.mark.parametrize(("to", "left"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_rewind(to, left, tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    journal.rewind(to)  # nothing there yet
    for epoch in (1, 2, 3):
        journal.append({"epoch": epoch})
    journal.rewind(to)
    assert epochs(path) == left
    journal.append({"epoch": 10})
    assert epochs(path) == [*left, 10]
