import dataclasses
import pickle

import pytest

from lsmdbm._base.options import BOUNDS, CHOICES, DEFAULTS, OPTIONAL_BOUNDS, SECONDS, SHAPE, Options

ALL_BOUNDS = BOUNDS | OPTIONAL_BOUNDS


def test_every_option_is_checked_in_exactly_one_way():
    names = [*CHOICES, *BOUNDS, *OPTIONAL_BOUNDS, *SECONDS]

    assert sorted(DEFAULTS) == sorted(names)


def test_defaults_are_valid():
    assert Options() == Options.choose({}) == Options(**DEFAULTS)  # what is given is checked


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in CHOICES for value in CHOICES[name]])
def test_every_choice_is_accepted(name, value):
    assert value is getattr(Options(**{name: value}), name)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["", "FULL", b"full", 0, 1, 2.0, [], object()])
def test_what_is_no_choice_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"option {name}=.* must be one of"):
        Options(**{name: value})


def test_none_is_a_choice_only_where_it_is_listed():
    for name, choices in CHOICES.items():
        if None not in choices:
            with pytest.raises(ValueError, match=name):
                Options(**{name: None})


@pytest.mark.parametrize(("name", "low", "high"), [(name, *ends) for name, ends in ALL_BOUNDS.items()])
def test_bounds_are_included_and_what_is_beyond_is_refused(name, low, high):
    assert low == getattr(Options(**{name: low}), name)
    assert high == getattr(Options(**{name: high}), name)
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"option {name}={value}: must be an int from {low} to {high}"):
            Options(**{name: value})


@pytest.mark.parametrize("name", OPTIONAL_BOUNDS)
def test_bound_that_may_be_left_out_is_none_by_default(name):
    assert getattr(Options(), name) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ALL_BOUNDS for value in (True, 5.0, "5")] + [(name, None) for name in BOUNDS],
)
def test_only_an_int_is_an_int(name, value):
    with pytest.raises(ValueError, match=name):
        Options(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_may_be_none_at_all_and_may_be_fractions(name):
    for value in (0, 0.0, 0.25, 3600):
        assert value == getattr(Options(**{name: value}), name)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [-1, -0.001, float("inf"), float("nan"), True, "1", None])
def test_seconds_are_finite_numbers_from_zero_up(name, value):
    with pytest.raises(ValueError, match=f"option {name}=.* number of seconds"):
        Options(**{name: value})


def test_options_never_change():
    options = Options()

    with pytest.raises(AttributeError, match="^options never change: 'block_bytes'$"):
        options.block_bytes = 1
    with pytest.raises(AttributeError, match="^options never change: 'timeout'$"):
        del options.timeout

    assert Options() == options


def test_options_are_equal_if_all_they_say_is():
    options = Options(block_bytes=64)

    assert (options, hash(options)) == (Options(block_bytes=64), hash(Options(block_bytes=64)))
    assert options not in (Options(), "Options(block_bytes=64)")
    assert options == Options().replace(block_bytes=64) == pickle.loads(pickle.dumps(options))
    assert options == eval(repr(options))


def test_options_are_a_dataclass_to_who_asks():
    options = Options(block_bytes=64)

    assert dataclasses.is_dataclass(Options)
    assert dataclasses.is_dataclass(options)
    assert list(vars(options)) == [field.name for field in dataclasses.fields(Options)]
    assert vars(Options()) == {field.name: field.default for field in dataclasses.fields(options)}
    assert vars(options) == dataclasses.asdict(options)
    assert Options(block_bytes=64, timeout=2.0) == dataclasses.replace(options, timeout=2.0)
    with pytest.raises(ValueError, match="block_bytes=0"):
        dataclasses.replace(options, block_bytes=0)


def test_replacing_checks_as_making_does():
    with pytest.raises(ValueError, match="block_bytes"):
        Options().replace(block_bytes=0)
    for make in (Options, Options().replace):
        with pytest.raises(TypeError, match=r"^Options\(\) got an unexpected keyword argument 'blok_bytes'$"):
            make(blok_bytes=64)


def test_given_beats_remembered_beats_default():
    options = Options.choose({"block_bytes": 64}, {"block_bytes": 128, "compression_level": 7})

    assert (64, 7, Options().cache_bytes) == (
        options.block_bytes,
        options.compression_level,
        options.cache_bytes,
    )


def test_an_unknown_name_is_a_type_error_as_for_any_function():
    with pytest.raises(TypeError, match=r"open\(\) got an unexpected keyword argument 'blok_bytes'"):
        Options.choose({"blok_bytes": 64})


def test_remembered_values_are_checked_too():
    with pytest.raises(ValueError, match="block_bytes"):
        Options.choose({}, {"block_bytes": 0})


def test_the_shape_of_a_database_can_be_remembered_and_chosen_again():
    options = Options(block_bytes=64, compression=None, bloom_bits_per_key=0)

    assert set(SHAPE) == set(options.shape())
    assert options == Options.choose({}, options.shape())


# A policy and its bound


def test_fifo_needs_its_bound_as_soon_as_nothing_can_tell_it_any_more():
    with pytest.raises(ValueError, match="^option max_bytes=None: must be an int for compaction='fifo'"):
        Options.choose({"compaction": "fifo"}, {})

    assert Options.choose({"compaction": "fifo"}).max_bytes is None  # the database may remember one
    assert 7 == Options.choose({"compaction": "fifo"}, {"compaction": "fifo", "max_bytes": 7}).max_bytes


@pytest.mark.parametrize("compaction", ["leveled", "tiered"])
@pytest.mark.parametrize("remembered", [None, {}, {"compaction": "fifo", "max_bytes": 7}])
def test_bound_that_nobody_would_keep_is_refused(compaction, remembered):
    with pytest.raises(ValueError, match="^option max_bytes=9: must be None but for compaction='fifo'"):
        Options.choose({"compaction": compaction, "max_bytes": 9}, remembered)


def test_bound_alone_is_judged_by_the_policy_that_is_remembered():
    assert 9 == Options.choose({"max_bytes": 9}).max_bytes
    assert 9 == Options.choose({"max_bytes": 9}, {"compaction": "fifo", "max_bytes": 7}).max_bytes
    for remembered in ({}, {"compaction": "tiered", "max_bytes": None}):
        with pytest.raises(ValueError, match="^option max_bytes=9"):
            Options.choose({"max_bytes": 9}, remembered)


def test_another_policy_forgets_the_bound():
    options = Options.choose({"compaction": "leveled"}, {"compaction": "fifo", "max_bytes": 7})

    assert ("leveled", None) == (options.compaction, options.max_bytes)
