import hashlib
import multiprocessing
import threading
import time

import pytest

from selva_audio.errors import DownloadError
from selva_audio.progress import Cancelled
from selva_audio.weights import download as module
from selva_audio.weights.download import NotOnHub, fetch
from selva_audio.weights.hub import hub_url, is_offline

CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()
REPO = "owner/model"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "w.pth"


@pytest.fixture
def url(hub):
    hub.put(REPO, "weights/w.pth", CONTENT)
    return hub_url(REPO, "weights/w.pth")


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_fresh_download_leaves_the_file_and_nothing_else(hub, url, target):
    assert fetch([url], target, md5=MD5) == MD5
    assert target.read_bytes() == CONTENT
    assert names(target) == ["w.pth"]


def test_address_follows_the_endpoint_variable_of_the_moment(hub, url, monkeypatch):
    assert url == f"{hub.url}/{REPO}/resolve/main/weights/w.pth"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert hub_url(REPO, "a.bin") == f"https://mirror.example/{REPO}/resolve/main/a.bin"


def test_endpoint_that_is_no_web_address_is_refused(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(DownloadError, match="HF_ENDPOINT is 'file:///etc'"):
        hub_url(REPO, "a.bin")


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_variable_is_read_at_the_moment_of_asking(monkeypatch, value, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert is_offline() is offline


def test_half_a_body_is_continued_where_it_broke_off(hub, url, target):
    hub.faults = ["half"]
    assert fetch([url], target) == MD5
    assert hub.asked("w.pth") == [None, f"bytes={len(CONTENT) // 2}-"]
    assert names(target) == ["w.pth"]


def test_next_call_continues_what_an_earlier_one_left(hub, url, target):
    hub.always = "half"
    with pytest.raises(
        DownloadError, match="broke off in the middle of the file, 4 times; what arrived is kept"
    ):
        fetch([url], target)
    assert not target.exists()
    (part,) = target.parent.glob("*.part")
    kept = part.stat().st_size
    assert CONTENT.startswith(part.read_bytes())
    hub.always, hub.requests = None, []
    assert fetch([url], target) == MD5
    assert hub.asked("w.pth") == [f"bytes={kept}-"]
    assert names(target) == ["w.pth"]


def test_complete_part_is_taken_without_a_second_transfer(hub, url, target):
    hub.faults = ["half"]
    with pytest.raises(Cancelled):
        fetch([url], target, on_progress=raise_when(lambda progress: progress.step > 0))
    (part,) = target.parent.glob("*.part")
    part.write_bytes(CONTENT)
    hub.requests = []
    assert fetch([url], target) == MD5
    assert hub.asked("w.pth") == [f"bytes={len(CONTENT)}-"]


def test_part_of_a_file_that_has_changed_on_the_hub_is_dropped(hub, url, target):
    hub.always = "half"
    with pytest.raises(DownloadError):
        fetch([url], target)
    hub.always = None
    changed = hub.put(REPO, "weights/w.pth", CONTENT[::-1])
    fetch([url], target)
    assert target.read_bytes() == changed
    assert names(target) == ["w.pth"]


def test_server_that_cannot_continue_sends_the_whole_file_again(hub, url, target):
    hub.faults = ["half", "norange"]
    assert fetch([url], target) == MD5
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_tried_again(hub, url, target, status):
    hub.faults = [str(status), str(status)]
    assert fetch([url], target) == MD5
    assert len(hub.asked("w.pth")) == 3


@pytest.mark.parametrize("status", ["429", "500"])
def test_lasting_trouble_is_given_up_after_a_few_tries(hub, url, target, status):
    hub.always = status
    with pytest.raises(DownloadError, match=rf"answered {status} .* 4 times") as caught:
        fetch([url], target)
    assert len(hub.asked("w.pth")) == 4
    assert all(hint in str(caught.value) for hint in ("--models-dir", "HF_ENDPOINT", url))
    assert names(target) == []


def test_retry_after_goes_before_our_own_waits(hub, url, target, monkeypatch):
    monkeypatch.setattr(module, "RETRY_DELAYS", (3600.0,))
    hub.faults, hub.retry_after = ["429"], "0"
    assert fetch([url], target) == MD5


def test_retry_after_that_is_too_long_is_told_instead_of_waited_for(hub, url, target):
    hub.always, hub.retry_after = "429", "3600"
    with pytest.raises(DownloadError, match=r"answered 429 .*it asks to wait 3600 s"):
        fetch([url], target)
    assert len(hub.asked("w.pth")) == 1


def test_missing_file_falls_to_the_next_address(hub, url, target):
    assert fetch([hub_url(REPO, "weights/other.pth"), url], target) == MD5
    assert len(hub.asked("other.pth")) == 1


def test_file_that_no_address_has_is_told_apart(hub, url, target):
    with pytest.raises(NotOnHub, match=r"answered 404 .* for /owner/model/resolve/main/weights/none\.pth"):
        fetch([hub_url(REPO, "weights/none.pth")], target)
    assert names(target) == []


@pytest.mark.parametrize(("status", "advice"), [("401", "HF_TOKEN"), ("403", "accept the conditions")])
def test_refused_access_says_what_is_needed(hub, url, target, status, advice):
    hub.always = status
    with pytest.raises(DownloadError, match=advice):
        fetch([url], target)


def test_web_page_in_place_of_the_file_is_refused(hub, url, target):
    hub.always = "html"
    with pytest.raises(DownloadError, match="answered with a web page instead of the file"):
        fetch([url], target)
    assert names(target) == []


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>sorry</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b'{"error": "busy"}', "a JSON text"),
        (b"", "an empty file"),
    ],
)
def test_text_sent_as_binary_is_refused(hub, url, target, body, what):
    hub.put(REPO, "weights/w.pth", body)
    with pytest.raises(DownloadError, match=what):
        fetch([url], target)
    assert names(target) == []


def test_json_file_may_hold_json(hub, tmp_path):
    hub.put(REPO, "config.json", b'{"a": 1}')
    fetch([hub_url(REPO, "config.json")], tmp_path / "config.json")
    assert (tmp_path / "config.json").read_bytes() == b'{"a": 1}'


def test_redirect_loop_is_one_sentence(hub, url, target):
    hub.always = "loop"
    with pytest.raises(DownloadError, match="redirects in a circle") as caught:
        fetch([url], target)
    assert "\n" not in str(caught.value)


def test_wrong_hash_removes_what_arrived(hub, url, target):
    with pytest.raises(DownloadError, match=rf"has the md5 {MD5}, expected is {'0' * 32}; it was removed"):
        fetch([url], target, md5="0" * 32)
    assert names(target) == []


def test_existing_file_is_kept_and_not_asked_for(hub, url, target):
    target.parent.mkdir()
    target.write_bytes(b"users own")
    assert fetch([url], target) == hashlib.md5(b"users own").hexdigest()
    assert target.read_bytes() == b"users own"
    assert hub.requests == []


def test_unreachable_hub_is_one_sentence_and_each_host_is_tried_once(hub, target):
    urls = [f"http://127.0.0.1:9/{name}" for name in "ab"]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9 cannot be reached") as caught:
        fetch(urls, target)
    assert str(caught.value).count("cannot be reached") == 1
    assert "\n" not in str(caught.value)


def raise_when(condition):
    def callback(progress):
        if condition(progress):
            raise Cancelled

    return callback


@pytest.mark.parametrize("fault", ["stall", "slow"])
def test_cancel_leaves_only_a_part_that_the_next_call_continues(hub, url, target, fault):
    hub.faults = [fault]
    with pytest.raises(Cancelled):
        fetch([url], target, on_progress=raise_when(lambda progress: progress.step > 0))
    assert all(name.endswith(".part") for name in names(target))
    assert fetch([url], target) == MD5
    assert hub.asked("w.pth")[-1] is not None
    assert names(target) == ["w.pth"]


def test_cancel_works_while_the_server_is_silent_and_while_waiting_to_retry(hub, url, target, monkeypatch):
    monkeypatch.setattr(module, "RETRY_DELAYS", (60.0,))
    hub.always = "500"
    with pytest.raises(Cancelled):
        fetch([url], target, on_progress=raise_when(lambda progress: True))
    assert not target.exists()


def test_error_of_a_callback_passes_through_unchanged(hub, url, target):
    class Interrupt(BaseException):
        pass

    def callback(progress):
        raise Interrupt

    with pytest.raises(Interrupt):
        fetch([url], target, on_progress=callback)


def test_progress_counts_bytes_up_to_the_size_and_keeps_coming_while_nothing_arrives(hub, url, target):
    hub.faults = ["slow"]
    reports = []
    fetch([url], target, on_progress=reports.append)
    transfer = [report for report in reports if report.stage == "downloading w.pth"]
    steps = [report.step for report in transfer]
    assert steps == sorted(steps)
    assert len(steps) >= 3
    assert transfer[-1].step == transfer[-1].total == len(CONTENT)
    assert transfer[-1].metrics["bytes_per_second"] > 0
    assert reports[-1].stage.startswith("checking")


def test_full_disk_is_told_before_the_transfer(hub, url, target, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"has 0\.00 GB free.*--models-dir"):
        fetch([url], target)
    assert names(target) == []


def test_disk_that_fills_up_on_the_way_is_told_and_what_arrived_is_continued(hub, url, target):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DownloadError, match=r"Cannot write .*goes on from there"):
            fetch([url], target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()
    assert fetch([url], target) == MD5
    assert hub.asked("w.pth")[-1] is not None


def test_folder_that_cannot_be_made_is_told(hub, url, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="Cannot make the folder"):
        fetch([url], tmp_path / "file" / "w.pth")


def test_token_goes_to_the_hub_and_not_where_it_redirects(hub, url, target, monkeypatch):
    from hub_server import running_hub

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with running_hub() as store:
        store.files = hub.files
        hub.redirect_to = store.url
        assert fetch([url], target) == MD5
        assert hub.authorizations == ["Bearer hf_secret"]
        assert store.authorizations == [None]


def test_two_threads_download_one_file_once(hub, url, target):
    hub.faults = ["slow"]
    waited = threading.Event()

    def note(progress):
        if progress.stage.startswith("waiting for another download"):
            waited.set()

    threads = [
        threading.Thread(target=fetch, args=([url], target), kwargs={"on_progress": note}) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(hub.asked("w.pth")) == 1
    assert waited.is_set()


def test_waiting_for_another_process_can_be_cancelled_and_ends_with_its_file(hub, url, target):
    context = multiprocessing.get_context("fork")
    hub.faults = ["slow"]
    other = context.Process(target=fetch, args=([url], target))
    other.start()
    while not list(target.parent.glob("*.part")):
        time.sleep(0.01)
    with pytest.raises(Cancelled):
        fetch([url], target, on_progress=raise_when(lambda progress: progress.stage.startswith("waiting")))
    assert fetch([url], target) == MD5
    other.join()
    assert len(hub.asked("w.pth")) == 1
