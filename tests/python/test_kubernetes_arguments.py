"""What `launchers.Kubernetes` is given is looked at before anything is asked of a cluster."""

import pytest

from procession.errors import InvalidArgument, LimitExceeded
from procession.launchers import Kubernetes


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("image_pull_policy", "sometimes"),
        ("image_pull_secrets", "one"),
        ("image_pull_secrets[0]", [1]),
        ("tolerations[1]", ["a", None]),
        ("volumes", "/a:/b"),
        ("labels", "team"),
        ("annotations", {"a": 1}),
        ("node_selector", [("a", "b")]),
        ("gpus", -1),
        ("init", "no"),
        ("keep", 1),
        ("image_patience", "long"),
        ("namespace", 1),
        ("patch", "spec"),
        ("patch", {"spec": {1, 2}}),
    ],
)
def test_what_is_of_no_use_is_refused_by_the_name_of_its_argument(field, given):
    with pytest.raises(InvalidArgument) as refused:
        Kubernetes("image:1", **{field.partition("[")[0]: given})
    assert refused.value.field == field


def test_more_gpus_than_can_be_asked_for_are_refused():
    with pytest.raises(LimitExceeded):
        Kubernetes("image:1", gpus=2**32)


def test_what_is_left_out_is_left_to_the_launcher():
    launcher = Kubernetes("image:1", labels=None, patch={"spec": {"hostNetwork": True}})
    assert launcher.config["labels"] == {}
    assert launcher.config["patch"] == {"spec": {"hostNetwork": True}}
    assert "namespace" not in launcher.config
