"""Programs of towers hold no parameters, which lie beside them once, whatever their type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from retrieval.serving.bundle import by_row, export_towers, lift, load_tower

ROWS = jnp.array([3, 0, 3], jnp.int32)


def of_table(table, other, rows, **columns):
    return sum(columns.values(), start=table[rows].astype(jnp.float32))


def of_both(table, other, rows):
    return table[rows] * other["scale"]


def exported(size, dtype=jnp.float32):
    """Returns programs and parameters of two towers that share a table, and the towers."""
    table = jnp.asarray(np.random.default_rng(0).normal(size=(size, 4)), dtype)
    other = {"scale": jnp.asarray(2.0, dtype), "never read": jnp.ones(size)}
    towers = {"first": Partial(of_table, table, other), "second": Partial(of_both, table, other)}
    columns = {"first": {"bias": np.zeros((1, 4), np.float32)}, "second": {}}
    return *export_towers({name: (tower, columns[name]) for name, tower in towers.items()}), towers


def given(parameters):
    return lambda name, shape, dtype: jax.device_put(parameters[name].view(dtype).reshape(shape))


def test_a_program_is_as_long_for_a_million_rows_as_for_ten():
    lengths = [[len(program) for program in exported(size)[0].values()] for size in (10, 1_000_000)]
    assert np.allclose(*lengths, rtol=0, atol=100)


def test_what_towers_read_is_there_once_and_nothing_else():
    _, parameters, towers = exported(5)
    assert sorted(array.shape for array in parameters.values()) == [(), (5, 4)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_towers_come_back_whatever_the_type_of_their_parameters(dtype):
    programs, parameters, towers = exported(5, dtype)
    assert all(array.dtype.isbuiltin == 1 for array in parameters.values())  # as .npy files have them
    first, second = (load_tower(programs[name], given(parameters)) for name in towers)
    bias = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = towers["first"](ROWS) + bias
    np.testing.assert_allclose(first(ROWS, bias=bias), expected, rtol=1e-2)
    np.testing.assert_allclose(second(ROWS), towers["second"](ROWS).astype(jnp.float32), rtol=1e-6)
    assert second(ROWS).dtype == jnp.float32


def test_a_loaded_tower_is_a_tree_of_its_arrays():
    programs, parameters, towers = exported(5)
    tower = load_tower(programs["first"], given(parameters))
    alone = by_row(tower, {"bias": np.arange(20, dtype=np.float32).reshape(5, 4)})
    arrays, join = lift(alone)
    assert sorted(array.shape for array in arrays.values()) == [(5, 4), (5, 4)]
    zeros = join(jax.tree.map(jnp.zeros_like, arrays))
    assert not zeros(ROWS).any() and np.allclose(
        alone(ROWS), towers["first"](ROWS) + np.asarray(alone.args[1]["bias"])[ROWS]
    )


def test_what_is_no_parameter_stays_in_the_program():
    key, numbers = jax.random.key(3), np.array([2.0, 5.0])

    def tower(key, numbers, rows):
        return jnp.broadcast_to(jax.random.normal(key, (4,)) * int(numbers[1]), (*rows.shape, 4))

    programs, parameters = export_towers({"tower": (Partial(tower, key, numbers), {})})
    assert parameters == {}
    expected = np.broadcast_to(jax.random.normal(key, (4,)) * 5, (3, 4))
    np.testing.assert_allclose(load_tower(programs["tower"], given({}))(ROWS), expected, rtol=1e-6)


def test_parameters_on_several_devices_are_exported_for_any_number():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("devices",))
    for spec in (jax.P(), jax.P("devices")):
        table = jax.device_put(jnp.arange(24.0).reshape(6, 4), jax.NamedSharding(mesh, spec))
        programs, parameters = export_towers({"tower": (Partial(of_table, table, {}), {})})
        assert jax.export.deserialize(bytearray(programs["tower"])).nr_devices == 1
        np.testing.assert_array_equal(load_tower(programs["tower"], given(parameters))(ROWS), np.asarray(table)[ROWS])


@pytest.mark.parametrize("content", [b"", b"no program", b"\0" * 1000])
def test_bytes_that_are_no_program_are_refused(content):
    with pytest.raises(ValueError, match="not a StableHLO program"):
        load_tower(content, given({}))


def test_a_program_that_takes_other_things_is_refused():
    program = jax.export.export(jax.jit(lambda rows: rows))(jax.ShapeDtypeStruct((3,), jnp.int32)).serialize()
    with pytest.raises(ValueError, match="not a StableHLO program that this version of jax reads"):
        load_tower(bytes(program), given({}))
