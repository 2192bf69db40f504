"""The random provider's stand-in: passwords, strings, ids, names; made once, kept in the state.

Every input makes the value, so every change replaces the resource. Chance is the operating
system's (`secrets`), except where a `seed` is given: then the result is reproducible here, but not
the one that the real plugin draws from the same seed.
"""

import base64
import hashlib
import random
import secrets
import string
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pulumi.provider.experimental import provider as sdk

from local.providers.protocol import (
    UNKNOWN,
    ProviderError,
    StandIn,
    contains_unknown,
    diff_response,
    from_plain_map,
    old_inputs,
    serve,
    to_plain,
)

Values: TypeAlias = dict[str, Any]

VERSION: Final = "4.21.4"
"""The plugin stood in for; the SDK of the same version asks for exactly it."""

_SPECIAL: Final = "!@#$%&*()-_=+[]{}<>:?"
_BCRYPT_BYTES: Final = 72
_CHANCE: Final = secrets.SystemRandom()


@dataclass(frozen=True)
class RandomType:
    """A kind of resource: what it takes, and how its value is made."""

    generate: Callable[[Values], tuple[str, Values]]
    """From complete inputs to the id and the computed outputs."""
    computed: tuple[str, ...]
    required: tuple[str, ...] = ()
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Inputs that may be left out, with what they then are (None: nothing)."""
    secret: tuple[str, ...] = ()
    problem: Callable[[Values], str | None] = lambda _: None
    """What is wrong with known, complete inputs, if anything."""
    adopt: Callable[[str], tuple[str, Values, Values]] | None = None
    """From an import's id to the id, the inputs and the computed outputs; ValueError if wrong."""

    def complete(self, inputs: Mapping[str, Any]) -> Values:
        """The inputs with those that were left out."""
        given = {k: v for k, v in inputs.items() if not k.startswith("__") and v is not None}
        if given.get("numeric", given.get("number")) is not None and "numeric" in self.optional:
            given["numeric"] = given["number"] = given.get("numeric", given.get("number"))
        left_out = {k: v for k, v in self.optional.items() if v is not None}
        return {**left_out, **given}


# --- strings and passwords --------------------------------------------------------------------

_CHARACTERS: Final = {
    "optional": {
        "keepers": None,
        "lower": True,
        "upper": True,
        "numeric": True,
        "number": True,
        "special": True,
        "overrideSpecial": None,
        "minLower": 0,
        "minUpper": 0,
        "minNumeric": 0,
        "minSpecial": 0,
    },
    "required": ("length",),
}


def _classes(inputs: Values) -> list[tuple[str, int]]:
    """The allowed classes of characters, each with how many there must be at least."""
    every = (
        ("lower", string.ascii_lowercase, "minLower"),
        ("upper", string.ascii_uppercase, "minUpper"),
        ("numeric", string.digits, "minNumeric"),
        ("special", inputs.get("overrideSpecial") or _SPECIAL, "minSpecial"),
    )
    return [(characters, inputs[least]) for name, characters, least in every if inputs[name]]


def _characters_problem(inputs: Values) -> str | None:
    length, classes = inputs["length"], _classes(inputs)
    least = sum(inputs[k] for k in ("minLower", "minUpper", "minNumeric", "minSpecial"))
    if not isinstance(length, int) or length < 1:
        return f"length is {length}; it must be a whole number of at least 1"
    if length < least:
        return f"length is {length}; the minimum counts alone add up to {least}"
    if not classes:
        return "lower, upper, numeric and special are all false; at least one must be true"
    return None


def _characters(inputs: Values) -> str:
    classes = _classes(inputs)
    chosen = [_CHANCE.choice(characters) for characters, least in classes for _ in range(least)]
    every = "".join(characters for characters, _ in classes)
    chosen += [_CHANCE.choice(every) for _ in range(inputs["length"] - len(chosen))]
    _CHANCE.shuffle(chosen)
    return "".join(chosen)


def _string(inputs: Values) -> tuple[str, Values]:
    result = _characters(inputs)
    return result, {"result": result}


def _password(inputs: Values) -> tuple[str, Values]:
    result = _characters(inputs)
    return "none", {"result": result, "bcryptHash": _bcrypt(result)}


def _bcrypt(text: str) -> str:
    import bcrypt  # noqa: PLC0415 - only passwords need it

    return bcrypt.hashpw(text.encode()[:_BCRYPT_BYTES], bcrypt.gensalt(10)).decode()


def _adopt_string(value: str) -> tuple[str, Values, Values]:
    return value, {"length": len(value)}, {"result": value}


def _adopt_password(value: str) -> tuple[str, Values, Values]:
    return "none", {"length": len(value)}, {"result": value, "bcryptHash": _bcrypt(value)}


# --- ids, names, numbers ----------------------------------------------------------------------


def _id(inputs: Values) -> tuple[str, Values]:
    return _id_of(secrets.token_bytes(inputs["byteLength"]), inputs.get("prefix", ""))


def _id_of(data: bytes, prefix: str) -> tuple[str, Values]:
    url = base64.urlsafe_b64encode(data).decode().rstrip("=")
    return url, {
        "b64Url": prefix + url,
        "b64Std": prefix + base64.b64encode(data).decode(),
        "hex": prefix + data.hex(),
        "dec": prefix + str(int.from_bytes(data, "big")),
    }


def _adopt_id(text: str) -> tuple[str, Values, Values]:
    prefix, _, url = text.rpartition(",")
    data = base64.urlsafe_b64decode(url + "=" * (-len(url) % 4))
    inputs = {"byteLength": len(data)} | ({"prefix": prefix} if prefix else {})
    return url, inputs, _id_of(data, prefix)[1]


def _id_problem(inputs: Values) -> str | None:
    length = inputs["byteLength"]
    if not isinstance(length, int) or length < 1:
        return f"byteLength is {length}; it must be a whole number of at least 1"
    return None


def _integer(inputs: Values) -> tuple[str, Values]:
    result = _chance(inputs.get("seed")).randint(inputs["min"], inputs["max"])
    return str(result), {"result": result}


def _integer_problem(inputs: Values) -> str | None:
    if inputs["min"] > inputs["max"]:
        return f"min is {inputs['min']}; it must not be above max, {inputs['max']}"
    return None


def _adopt_integer(text: str) -> tuple[str, Values, Values]:
    result, low, high, *seed = text.split(",")
    inputs: Values = {"min": int(low), "max": int(high)}
    if seed:
        inputs["seed"] = seed[0]
    return result, inputs, {"result": int(result)}


def _uuid(_: Values) -> tuple[str, Values]:
    result = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    return result, {"result": result}


def _adopt_uuid(text: str) -> tuple[str, Values, Values]:
    result = str(uuid.UUID(text))
    return result, {}, {"result": result}


def _shuffle(inputs: Values) -> tuple[str, Values]:
    chance, items = _chance(inputs.get("seed")), inputs["inputs"]
    count = inputs.get("resultCount", len(items))
    results: list[Any] = []
    while items and len(results) < count:
        results += chance.sample(items, min(len(items), count - len(results)))
    return "-", {"results": results}


def _pet(inputs: Values) -> tuple[str, Values]:
    length = inputs["length"]
    words = [_CHANCE.choice(_ADVERBS) for _ in range(length - 2)]
    words += [_CHANCE.choice(_ADJECTIVES)] if length > 1 else []
    words.append(_CHANCE.choice(_ANIMALS))
    prefix = [inputs["prefix"]] if inputs.get("prefix") else []
    return inputs["separator"].join(prefix + words), {}


def _pet_problem(inputs: Values) -> str | None:
    length = inputs["length"]
    if not isinstance(length, int) or length < 1:
        return f"length is {length}; it must be a whole number of at least 1"
    return None


def _chance(seed: str | None) -> random.Random:
    if not seed:
        return _CHANCE
    return random.Random(hashlib.sha256(seed.encode()).digest())  # noqa: S311 - asked for


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADVERBS: Final = _words("""
    barely boldly briskly calmly clearly closely deeply duly early easily fairly firmly freely
    fully gently gladly highly kindly lately lightly loosely loudly mainly mildly neatly newly
    openly partly plainly quickly quietly rarely safely slowly softly surely truly vastly warmly
""")
_ADJECTIVES: Final = _words("""
    able agile amber ample bold brave brief bright brisk calm candid clever cosmic crisp daring
    deep eager early exact fair fast fine firm fleet fond fresh gentle giant glad golden grand
    happy hardy honest humble jolly keen kind large light lively loyal lucid lucky mellow merry
    mighty modest neat noble novel patient plain polite prime proud pure quick quiet rapid rare
    ready rich robust ruby sharp shiny silent simple sleek smart smooth solid sound steady strong
""")
_ANIMALS: Final = _words("""
    badger bat bear beaver bee bird bison boar camel cat cheetah cicada clam condor cougar coyote
    crab crane cricket crow deer dingo dog dolphin dove drake duck eagle egret elk emu falcon fawn
    ferret finch flamingo fox frog gazelle gecko gibbon goose grouse gull hare hawk heron hippo
    horse ibex ibis iguana impala jackal jaguar jay kite kiwi koala lark lemur leopard lion lizard
    llama lobster lynx macaw magpie marten mole moose moth mouse newt ocelot osprey otter owl panda
    parrot pelican penguin perch pony puffin quail rabbit raven robin salmon seal shrew sparrow
    squid stork swan swift tapir tiger toad trout turtle walrus whale wolf wombat wren zebra
""")


# --- the table --------------------------------------------------------------------------------

TYPES: Final[Mapping[str, RandomType]] = {
    "random:index/randomPassword:RandomPassword": RandomType(
        _password,
        computed=("result", "bcryptHash"),
        secret=("result", "bcryptHash"),
        problem=_characters_problem,
        adopt=_adopt_password,
        **_CHARACTERS,  # type: ignore[arg-type]
    ),
    "random:index/randomString:RandomString": RandomType(
        _string,
        computed=("result",),
        problem=_characters_problem,
        adopt=_adopt_string,
        **_CHARACTERS,  # type: ignore[arg-type]
    ),
    "random:index/randomId:RandomId": RandomType(
        _id,
        computed=("b64Url", "b64Std", "hex", "dec"),
        required=("byteLength",),
        optional={"keepers": None, "prefix": None},
        problem=_id_problem,
        adopt=_adopt_id,
    ),
    "random:index/randomPet:RandomPet": RandomType(
        _pet,
        computed=(),
        optional={"keepers": None, "length": 2, "prefix": None, "separator": "-"},
        problem=_pet_problem,
    ),
    "random:index/randomInteger:RandomInteger": RandomType(
        _integer,
        computed=("result",),
        required=("min", "max"),
        optional={"keepers": None, "seed": None},
        problem=_integer_problem,
        adopt=_adopt_integer,
    ),
    "random:index/randomUuid:RandomUuid": RandomType(
        _uuid, computed=("result",), optional={"keepers": None}, adopt=_adopt_uuid
    ),
    "random:index/randomShuffle:RandomShuffle": RandomType(
        _shuffle,
        computed=("results",),
        required=("inputs",),
        optional={"keepers": None, "resultCount": None, "seed": None},
    ),
}


def _type(path: str) -> RandomType:
    """The entry of a resource's type, which the engine writes after those of its parents."""
    token = path.rpartition("$")[2]
    try:
        return TYPES[token]
    except KeyError:
        supported = ", ".join(sorted(name.rpartition(":")[2] for name in TYPES))
        raise ProviderError(
            f"the stand-in for the random provider has no {token}; it has {supported}. "
            "PROVIDERS=real uses the real plugin"
        ) from None


def _problems(kind: RandomType, inputs: Values) -> list[sdk.CheckFailure]:
    known = {*kind.required, *kind.optional}
    failures = [sdk.CheckFailure(k, f"there is no input {k}") for k in inputs if k not in known]
    failures += [
        sdk.CheckFailure(k, f"{k} is required") for k in kind.required if inputs.get(k) is None
    ]
    if not failures and not contains_unknown(inputs):
        problem = kind.problem(kind.complete(inputs))
        failures += [sdk.CheckFailure("", problem)] if problem else []
    return failures


class RandomProvider(StandIn):
    """The provider."""

    async def get_schema(self, request: sdk.GetSchemaRequest) -> sdk.GetSchemaResponse:  # noqa: ARG002
        """A schema without types: the programs' SDK already has them."""
        return sdk.GetSchemaResponse(f'{{"name": "random", "version": "{VERSION}"}}')

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:  # noqa: ARG002
        """There is nothing to configure."""
        return sdk.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def invoke(self, request: sdk.InvokeRequest) -> sdk.InvokeResponse:
        """There are no functions."""
        raise ProviderError(f"the random provider has no function {request.tok}")

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Refuse inputs that cannot be met."""
        inputs = {k: v for k, v in to_plain(request.new_inputs).items() if not k.startswith("__")}
        return sdk.CheckResponse(request.new_inputs, _problems(_type(request.type), inputs))

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        """Every change replaces."""
        kind = _type(request.type)
        old = kind.complete(to_plain(old_inputs()))
        new = kind.complete(to_plain(request.new_inputs))
        return diff_response(old, new, replaces=lambda _: True)

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        """Make the value; a preview does not know it yet."""
        kind = _type(request.type)
        inputs = kind.complete(to_plain(request.properties))
        if request.preview:
            identity, computed = None, dict.fromkeys(kind.computed, UNKNOWN)
        else:
            identity, computed = kind.generate(inputs)
        outputs = from_plain_map({**inputs, **computed}, like=request.properties)
        for name in kind.secret:
            outputs[name] = outputs[name].with_secret(True)
        return sdk.CreateResponse(identity, outputs)

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        """The value lives in the state alone, so it is what it was; an import brings it in."""
        if request.properties:
            return sdk.ReadResponse(request.resource_id, request.properties, request.inputs)
        kind = _type(request.type)
        if kind.adopt is None:
            raise ProviderError(f"{request.type} cannot be imported")
        try:
            identity, inputs, computed = kind.adopt(request.resource_id)
        except ValueError:
            raise ProviderError(
                f"this is not an id that {request.type} can be imported by"
            ) from None
        outputs = from_plain_map({**kind.complete(inputs), **computed})
        for name in kind.secret:
            outputs[name] = outputs[name].with_secret(True)
        return sdk.ReadResponse(identity, outputs, from_plain_map(inputs))

    async def delete(self, request: sdk.DeleteRequest) -> None:
        """Nothing exists outside the state."""


if __name__ == "__main__":
    serve(RandomProvider(), VERSION)
