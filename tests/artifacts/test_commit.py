import subprocess

import pytest

from tfasr.artifacts.commit import source_commit


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "source.py").write_text("one\n")
    git(tmp_path, "add", "source.py")
    git(tmp_path, "commit", "--quiet", "--no-verify", "--message", "First")
    return tmp_path


def test_the_commit_is_named_by_its_hash(tree):
    assert source_commit(tree) == git(tree, "rev-parse", "HEAD")[:12]


def test_a_tag_does_not_stand_for_it(tree):
    git(tree, "tag", "v1")
    assert source_commit(tree) == git(tree, "rev-parse", "HEAD")[:12]


def test_changed_files_are_told_and_new_ones_not(tree):
    (tree / "notes").write_text("")
    assert not source_commit(tree).endswith("-dirty")
    (tree / "source.py").write_text("two\n")
    assert source_commit(tree).endswith("-dirty")


def test_a_folder_below_a_working_tree_has_no_commit_of_its_own(tree):
    (tree / "site-packages").mkdir()
    assert source_commit(tree / "site-packages") == ""


def test_a_folder_without_git_has_no_commit(tmp_path):
    assert source_commit(tmp_path) == ""


def test_where_there_is_no_git_there_is_no_commit(tree, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert source_commit(tree) == ""
