"""The payloads of one docket: what each says of itself, what is read of them, how large they may be; and that no bytes do harm."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docket import Docket, Worker
from docket._loading import load_option
from docket._messages import dumps_call
from docket._options import DocketOptions, WorkerOptions
from docket._payloads import Payloads
from docket._signing import Signer
from docket.errors import InvalidArguments, InvalidOption, LoadError, NotSerializable, PayloadError, PayloadRefused, PayloadTooLarge

KEY, OTHER = "a signing key, long", "another key, as long"

called: list[str] = []


class Bomb:
    """This says that it was decoded."""

    def __reduce__(self) -> Any:
        return called.append, ("boom",)


class Leaver:
    """This tries to end whoever decodes it."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _leave, (self.error,)


def _leave(error: type[BaseException]) -> None:
    raise error("out")


class Upper:
    """This is a serializer of a user's own, for text."""

    name = "upper"

    def __repr__(self) -> str:
        return "Upper()"

    def dumps_call(self, args: tuple[Any, ...], kwargs: Any, function: Any) -> bytes:
        return json.dumps([args, kwargs]).upper().encode()

    def loads_call(self, data: bytes, function: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = json.loads(data.lower())
        return tuple(args), kwargs

    def dumps_result(self, value: Any, function: Any) -> bytes:
        return json.dumps(value).upper().encode()

    def loads_result(self, data: bytes, function: Any) -> Any:
        return json.loads(data.lower())


def task(text: str = "", *rest: Any, **more: Any) -> str: ...  # type: ignore[empty-body]


def payloads(**options: Any) -> Payloads:
    return Payloads(DocketOptions(name="d", **options))


def loaded(reader: Payloads, payload: bytes, generation: int = 1) -> Any:
    return reader.loads_call(payload, "task", "k", generation, task)


EVERY = [
    {}, {"serializer": "json"}, {"serializer": Upper()}, {"signing_keys": [KEY]}, {"serializer": "json", "signing_keys": [KEY]}, {"accept": ("cloudpickle",)},
    {"serializer": "json", "accept": ("json",)}, {"serializer": Upper(), "accept": ("upper",)}, {"signing_keys": [KEY], "require_signatures": False},
]  # fmt: skip


@pytest.mark.parametrize("options", EVERY, ids=repr)
def test_what_is_written_is_read(options: dict[str, Any]):
    ours = payloads(**options)
    written = ours.dumps_call(("a",), {"b": 1}, task)
    seal = ours.sealing("task", "k", written)

    assert loaded(ours, written if seal is None else seal(1)) == (("a",), {"b": 1})
    assert ours.loads_result(ours.dumps_result("a", task, limited=True), task) == "a"
    error = ours.dumps_exception(ValueError("bad", 1), "where", limited=True)
    assert error is not None
    found, _ = ours.loads_exception(error)
    assert (type(found), found.args) == (ValueError, ("bad", 1))
    sealed = ours.seal_outcome("task", "k", 1, "completed", None, b"=value")
    assert ours.open_outcome("task", "k", 1, "completed", None, sealed) == b"=value"
    assert ours.open_outcome("task", "k", 1, "failed", "x", ours.seal_outcome("task", "k", 1, "failed", "x", None)) is None


def test_whoever_wrote_it_every_docket_reads_what_it_knows():
    readers = [payloads(), payloads(serializer="json"), payloads(serializer=Upper())]

    for writer in (payloads(), payloads(serializer="json")):
        for reader in readers:
            assert loaded(reader, writer.dumps_call(("a",), {}, task)) == (("a",), {})


def test_payloads_of_today_stay_as_they_are():
    assert payloads().dumps_call(("a", 1), {}, task) == dumps_call(("a", 1), {}) == pickle.dumps((("a", 1), {}), 5)


@pytest.mark.parametrize("which", ["arguments", "result", "exception"])
def test_a_pickle_is_refused_before_it_is_decoded_where_it_is_not_accepted(which: str):
    called.clear()
    reader, bomb = payloads(serializer="json", accept=("json",)), pickle.dumps(Bomb())

    loads = {"arguments": lambda: loaded(reader, bomb), "result": lambda: reader.loads_result(bomb, task), "exception": lambda: reader.loads_exception(bomb)}
    with pytest.raises(PayloadRefused, match="written by 'cloudpickle', cannot be taken: only 'json' is accepted here"):
        loads[which]()
    assert called == []


def test_a_worker_may_accept_less_than_its_docket():
    both = payloads(serializer="json")
    worker = both.accepting(("json",))
    pickled = payloads().dumps_call(("a",), {}, task)

    assert loaded(both, pickled) == (("a",), {})
    with pytest.raises(PayloadRefused):
        loaded(worker, pickled)
    assert both.accepting(None) is both
    with pytest.raises(InvalidOption, match="without the docket's own serializer"):
        payloads().accepting(("json",))
    with pytest.raises(InvalidOption, match="accept is 'nobody'"):
        Worker(Docket(serializer="json"), accept=("json", "nobody"))


def test_a_serializer_that_went_out_of_use_can_still_be_read():
    written = payloads(serializer=Upper()).dumps_call(("a",), {}, task)

    assert loaded(payloads(accept=("cloudpickle", Upper())), written) == (("a",), {})
    with pytest.raises(PayloadRefused, match="written by 'upper'"):
        loaded(payloads(), written)


@pytest.mark.parametrize("payload", [b"", b"rubbish", b"\x02", b"\x02\x09up", b"\x02\xff", b"\x01", b"\x01{", b"\x03", b"\x80", b"\x80\x05.", b"\x04"])
def test_what_is_nobodys_is_a_payload_error(payload: bytes):
    for options in EVERY:
        with pytest.raises(PayloadError):
            loaded(payloads(**options), payload)


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError, RecursionError])
def test_decoding_cannot_end_who_decodes(error: type[BaseException]):
    pickled = pickle.dumps(Leaver(error))

    for load in (lambda: loaded(payloads(), pickled), lambda: payloads().loads_result(pickled, task), lambda: payloads().loads_exception(pickled)):
        with pytest.raises(PayloadError, match=error.__name__):
            load()


@pytest.mark.parametrize("where", ["pickle", "serializer"])
def test_who_presses_control_c_while_something_is_decoded_gets_through(where: str):
    class Pressed(Upper):
        def loads_call(self, data: bytes, function: Any) -> Any:
            raise KeyboardInterrupt

    reader = payloads(serializer=Pressed())
    with pytest.raises(KeyboardInterrupt):
        loaded(reader, pickle.dumps(Leaver(KeyboardInterrupt)) if where == "pickle" else b"\x02\x05upper")
    with pytest.raises(KeyboardInterrupt):
        reader.loads_result(pickle.dumps(Leaver(KeyboardInterrupt)), task)


def test_what_a_serializer_of_ones_own_raises_is_ours():
    class Faulty(Upper):
        def dumps_call(self, args: Any, kwargs: Any, function: Any) -> Any:
            return args[0] if args else self.fail()

        def loads_call(self, data: bytes, function: Any) -> Any:
            raise SystemExit(1)

        def fail(self) -> bytes:
            raise LookupError("no")

        def dumps_result(self, value: Any, function: Any) -> bytes:
            raise InvalidArguments("ours already")

    ours = payloads(serializer=Faulty())
    with pytest.raises(NotSerializable, match="cannot be written by the serializer 'upper': LookupError: no"):
        ours.dumps_call((), {}, task)
    with pytest.raises(NotSerializable, match="gave a str, and should give bytes"):
        ours.dumps_call(("text",), {}, task)
    with pytest.raises(PayloadError, match="SystemExit"):
        loaded(ours, ours.dumps_call((b"x",), {}, task))
    with pytest.raises(InvalidArguments, match="ours already"):
        ours.dumps_result(1, task, limited=True)


# Options


class Named(Upper):
    """This has a name to be tried."""

    def __init__(self, name: Any) -> None:
        self.name = name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"serializer": "yaml"}, "serializer is 'yaml'; give 'cloudpickle', 'json', or an object"),
        ({"serializer": json}, "serializer is a module without dumps_call"),
        ({"serializer": Named("json")}, "called 'json'; give it a name of its own"),
        ({"serializer": Named("cloudpickle")}, "called 'cloudpickle'; give it a name of its own"),
        ({"serializer": Named("with a space")}, "give it a name of its own"),
        ({"serializer": Named(5)}, "called 5; give it a name of its own"),
        ({"accept": "json"}, "accept is 'json'; give names of serializers"),
        ({"accept": ()}, "give names of serializers"),
        ({"accept": ("cloudpickle", "yaml")}, "accept is 'yaml'"),
        ({"accept": ("json",)}, "without the docket's own serializer; give 'cloudpickle' too"),
        ({"signing_keys": "k" * 32}, "signing_keys is a str; give a list of keys"),
        ({"signing_keys": ["short"]}, "item 1 has 5 bytes; give at least 16"),
        ({"signing_keys": ["k" * 32, None]}, "item 2 is a NoneType"),
        ({"require_signatures": 1}, "require_signatures is 1; give True or False"),
        ({"max_payload_bytes": 0}, "max_payload_bytes is 0; give a whole number"),
    ],
    ids=repr,
)
def test_an_impossible_option_is_refused(options: dict[str, Any], words: str):
    with pytest.raises(InvalidOption) as caught:
        Docket(**options)
    assert words in str(caught.value)


def test_a_worker_s_accept_is_looked_at_by_itself_first():
    wrong: Any = ([],)
    with pytest.raises(InvalidOption, match="accept is a list without dumps_call"):
        WorkerOptions(accept=wrong)


OBJECT, KEYS, NO_KEYS = Upper(), [KEY], 5


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("serializer", "json", "json"),
        ("serializer", f"{__name__}:OBJECT", OBJECT),
        ("serializer", OBJECT, OBJECT),
        ("accept", ("json", f"{__name__}:OBJECT"), ["json", OBJECT]),
        ("signing_keys", f"{__name__}:KEYS", KEYS),
        ("signing_keys", [KEY], [KEY]),
        ("max_payload_bytes", 5, 5),
        ("name", "a:b", "a:b"),
        ("result_storage", f"{__name__}:OBJECT", OBJECT),
    ],
)
def test_what_is_given_as_text_is_loaded_where_it_stands_for_an_object(name: str, given: Any, value: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, __name__, _this)

    assert load_option(name, given) == value


_this = SimpleNamespace(OBJECT=OBJECT, KEYS=KEYS, NO_KEYS=NO_KEYS)


def test_keys_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, __name__, _this)

    with pytest.raises(LoadError, match="is a int; for signing_keys, name a list of keys"):
        load_option("signing_keys", f"{__name__}:NO_KEYS")
    with pytest.raises(LoadError, match="perhaps a key itself"):
        load_option("signing_keys", KEY)
    with pytest.raises(LoadError, match="'NOBODY_SET_THIS', which is not set or empty"):
        load_option("signing_keys", "env:NOBODY_SET_THIS")
    monkeypatch.setenv("SOME_KEYS", " new,old, ")
    assert load_option("signing_keys", "env:SOME_KEYS") == ["new", "old"]


# Size


@pytest.mark.parametrize("serializer", ["cloudpickle", "json", Upper()], ids=["cloudpickle", "json", "upper"])
def test_arguments_that_are_too_large_are_refused_by_name_size_and_limit(serializer: Any):
    ours = payloads(serializer=serializer, max_payload_bytes=1000)

    assert ours.dumps_call(("x" * 500,), {}, task)
    with pytest.raises(PayloadTooLarge) as caught:
        ours.dumps_call(("small",), {"big": "x" * 5000, "less": "x" * 100}, task)
    assert "and may take 1,000 (max_payload_bytes)" in str(caught.value)
    assert "The largest is argument 'big', of about 5,0" in str(caught.value)
    assert "pass its identifier" in str(caught.value)
    with pytest.raises(ValueError, match="The largest is argument 'text'"):
        ours.dumps_call(("x" * 5000,), {}, task)
    assert isinstance(caught.value, NotSerializable)


def test_an_argument_whose_size_alone_is_not_known_is_not_the_largest():
    class Loose(Upper):
        def dumps_call(self, args: Any, kwargs: Any, function: Any) -> bytes:
            return b"x" * 2000

    with pytest.raises(PayloadTooLarge, match="The largest is argument 2"):
        payloads(serializer=Loose(), max_payload_bytes=1000).dumps_call(((number for number in range(3)), "x"), {}, lambda *args: None)
    with pytest.raises(PayloadTooLarge, match="take 2,007 bytes"):
        payloads(serializer=Loose(), max_payload_bytes=1000).dumps_call((), {}, task)


def test_a_result_that_is_too_large_is_refused_unless_it_is_kept_elsewhere():
    ours = payloads(max_payload_bytes=1000)

    with pytest.raises(PayloadTooLarge, match="the result takes .* bytes, and may take 1,000"):
        ours.dumps_result("x" * 5000, task, limited=True)
    assert ours.dumps_result("x" * 5000, task, limited=False)
    assert ours.dumps_exception(ValueError("x" * 5000), None, limited=True) is None
    assert ours.dumps_exception(ValueError("x" * 5000), None, limited=False)
    assert payloads(max_payload_bytes=None).dumps_result("x" * 5_000_000, task, limited=True)


# Failures in JSON


class Odd(Exception):
    """This cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_a_failure_in_json_is_words_and_built_in_ones_are_raised_as_they_were():
    ours = payloads(serializer="json")

    def there_and_back(error: BaseException) -> Any:
        written = ours.dumps_exception(error, "where", limited=True)
        assert written is not None
        return ours.loads_exception(written)

    found, where = there_and_back(KeyError("name", 5, None, b"x"))
    assert (type(found), found.args, where) == (KeyError, ("name", 5, None, "b'x'"), "where")
    assert there_and_back(Odd(Odd())) == (None, "where")
    assert there_and_back(SystemExit(1)) == (None, "where")
    assert there_and_back(UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")) == (None, "where")
    assert ours.dumps_exception(ValueError(10**5000), None, limited=True) is None


def test_the_failure_of_another_serializer_is_still_told():
    written = payloads(serializer=Upper()).dumps_exception(ValueError("bad"), None, limited=True)
    assert written is not None

    assert type(payloads().loads_exception(written)[0]) is ValueError


# Seals


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), min_size=6, max_size=6), st.lists(st.text(max_size=6), min_size=6, max_size=6), st.integers(0, 3), st.integers(0, 3))
def test_a_seal_is_good_for_nothing_but_what_it_was_made_for(these: list[str], those: list[str], one: int, other: int):
    def parts(words: list[str], number: int) -> tuple[str, ...]:
        docket, kind, task, key, about, payload = words
        return docket, kind, task, key, str(number), about, payload

    sealed = Signer(these[0], [KEY.encode()]).seal(these[1], these[2], these[3], one, these[5].encode("utf-8", "surrogatepass"), these[4])
    code = sealed[:33]
    reader = Signer(those[0], [OTHER.encode(), KEY.encode()])
    try:
        reader.opened(those[1], those[2], those[3], other, code + those[5].encode("utf-8", "surrogatepass"), those[4])
        is_taken = True
    except PayloadRefused:
        is_taken = False

    assert is_taken is (parts(these, one) == parts(those, other))


def test_every_bit_of_a_sealed_payload_counts():
    signer = Signer("d", [KEY.encode()])
    sealed = signer.seal("payload", "task", "k", 1, b"\x80value")

    for position in range(len(sealed)):
        for bit in range(8):
            altered = bytearray(sealed)
            altered[position] ^= 1 << bit
            with pytest.raises(PayloadRefused):
                signer.opened("payload", "task", "k", 1, bytes(altered))


# Whatever the bytes


marks: st.SearchStrategy[bytes] = st.sampled_from(
    [b"", b"\x80", b"\x80\x05", b"\x01", b"\x01[[", b"\x02", b"\x02\x05upper", b"\x03", b"\x03" + b"0" * 32, b"\x03" + b"0" * 32 + b"\x01"]
)
tails: st.SearchStrategy[bytes] = st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
).map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("options", EVERY, ids=repr)
@settings(deadline=None)
@given(payload=st.tuples(marks, tails).map(b"".join), text=st.text(max_size=5))
def test_whatever_bytes_come_only_our_errors_come_out(options: dict[str, Any], payload: bytes, text: str):
    reader = payloads(**options)

    for load in (
        lambda: loaded(reader, payload),
        lambda: reader.loads_result(payload, task),
        lambda: reader.loads_exception(payload),
        lambda: reader.open_result("task", "k", 1, payload),
        lambda: reader.open_outcome("task", "k", 1, "completed", text, payload),
    ):
        try:
            load()
        except PayloadError:
            pass


@pytest.mark.parametrize("options", [{}, {"serializer": "json"}, {"serializer": Upper()}], ids=repr)
@settings(deadline=None)
@given(place=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 200))
def test_no_single_damage_does_harm(options: dict[str, Any], place: int, byte: int, cut: int):
    ours = payloads(**options)
    written = bytearray(ours.dumps_call(("word", 5, [1.5, None]), {"named": {"a": [True]}}, task))
    written[place % len(written)] = byte

    try:
        args, kwargs = loaded(ours, bytes(written[: cut % len(written) + 1]))
        assert (type(args), type(kwargs)) == (tuple, dict)
    except PayloadError:
        pass
