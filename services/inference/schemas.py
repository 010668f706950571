"""Requests of OpenAI's inference routes.

Fields that change nothing here (`service_tier`, `verbosity`, ...) are ignored; a field that
would change the answer and is not supported is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Le, Len
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.inference.domain.generation import Sampling
from services.inference.domain.tools import Tools, choose_tools
from shared.errors import Invalid

Text = Annotated[str, Len(1, 65_536)]
Stop = Text | Annotated[list[Text], Len(1, 4)]
TokenIds = Annotated[list[Annotated[int, Ge(0)]], Len(1)]
Bias = Annotated[float, Ge(-100), Le(100)]
_MAX_CHOICES = 128
_MAX_PROMPTS = 128
_MAX_INPUTS = 2048
_MAX_TOOLS = 128


class _Body(BaseModel):
    # Strict: "0.5" is no number, as at OpenAI.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    model: Annotated[str, Len(1, 256)]
    user: str | None = None
    safety_identifier: str | None = None


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    include_usage: bool | None = None


class _Generating(_Body):
    """Fields that chats and completions share."""

    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
    n: Annotated[int, Ge(1), Le(_MAX_CHOICES)] | None = None
    seed: int | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    presence_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    logit_bias: Annotated[dict[str, Bias], Len(0, 1024)] | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> _Generating:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream=true")
        return self

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def _sampling(self, **particular: Any) -> Sampling:  # noqa: ANN401 - fields of Sampling
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=None if self.seed is None else self.seed % 2**32,
            stop=tuple(stop),
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias=_bias(self.logit_bias or {}),
            **particular,
        )


class ResponseFormat(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None

    @property
    def wanted(self) -> dict[str, Any] | None:
        """The JSON Schema the answer must fulfil, or None for free text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        schema = (self.json_schema or {}).get("schema")
        if not isinstance(schema, dict):
            raise Invalid(
                "response_format of type json_schema needs json_schema.schema, a JSON Schema.",
                code="invalid_value",
                param="response_format.json_schema.schema",
            )
        return schema


class FunctionBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None

    @property
    def declared(self) -> dict[str, Any]:
        """What was given; not by a dump, which ends at a depth of its own."""
        given = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {name: value for name, value in given.items() if value is not None}


class ToolBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Literal["function"]
    function: FunctionBody


class ChatRequest(_Generating):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[dict[str, Any]], Len(1, 2048)]
    max_tokens: Annotated[int, Ge(1)] | None = None
    max_completion_tokens: Annotated[int, Ge(1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolBody], Len(0, _MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    # The older form of the same.
    functions: Annotated[list[FunctionBody], Len(0, _MAX_TOOLS)] | None = None
    function_call: str | dict[str, Any] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    audio: Any = None
    modalities: list[str] | None = None
    web_search_options: Any = None

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs=true")
        return self

    def sampling(self) -> Sampling:
        """
        Raises:
            Invalid: A field is given that this server cannot honour.
        """
        _refuse("audio", self.audio)
        _refuse("web_search_options", self.web_search_options)
        _refuse("modalities", [kind for kind in self.modalities or [] if kind != "text"])
        return self._sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            json_schema=self._schema(),
        )

    @property
    def offered_tools(self) -> Tools | None:
        """
        What an answer may call.

        Raises:
            Invalid: The choice names nothing that is declared.
        """
        if self.functions and not self.tools:
            older = [function.declared for function in self.functions]
            return choose_tools(older, self.function_call, is_parallel=False, is_older=True)
        return choose_tools(
            [tool.function.declared for tool in self.tools or []],
            self.tool_choice,
            is_parallel=self.parallel_tool_calls is not False,
        )

    def _schema(self) -> dict[str, Any] | None:
        tools = self.offered_tools
        if tools is not None and tools.is_forced:
            return tools.schema
        if tools is not None and self.response_format and self.response_format.wanted:
            raise Invalid(
                "response_format together with tools that may be called is not supported by this "
                "server; force a call, or leave one of them out.",
                code="unsupported_parameter",
                param="response_format",
            )
        return self.response_format.wanted if self.response_format else None


class CompletionRequest(_Generating):
    """Body of `POST /v1/completions`; token ids are those of the model's base."""

    prompt: str | TokenIds | Annotated[list[str] | list[TokenIds], Len(1, _MAX_PROMPTS)]
    # The API's own default.
    max_tokens: Annotated[int, Ge(0)] | None = 16
    echo: bool | None = None
    logprobs: Annotated[int, Ge(0), Le(5)] | None = None
    best_of: int | None = None
    suffix: str | None = None

    def sampling(self) -> Sampling:
        """
        Raises:
            Invalid: A field is given that this server cannot honour.
        """
        _refuse("suffix", self.suffix)
        _refuse("best_of", self.best_of not in {None, 1, self.n})
        if len(self.prompts) * (self.n or 1) > _MAX_CHOICES:
            raise Invalid(
                f"{len(self.prompts)} prompts with n={self.n} ask for more than {_MAX_CHOICES} "
                "answers; send fewer prompts or a smaller n.",
                code="too_many_choices",
                param="n",
            )
        return self._sampling(max_tokens=self.max_tokens, top_logprobs=self.logprobs)

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry per prompt: text, or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [[token for token in prompt if isinstance(token, int)]]
        return [each for each in prompt if not isinstance(each, int)]


class EmbeddingRequest(_Body):
    """Body of `POST /v1/embeddings`."""

    input: Text | TokenIds | Annotated[list[Text] | list[TokenIds], Len(1, _MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """One entry per input: text, or token ids."""
        given = self.input
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], int):
            return [[token for token in given if isinstance(token, int)]]
        return [each for each in given if not isinstance(each, int)]


Request = TypeVar("Request", bound=_Body)


def read_body(kind: type[Request], body: object) -> Request:
    """
    A request that came by another way than HTTP.

    Raises:
        Invalid: Names the first field that is wrong.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        raise Invalid(
            f"{param or 'The request'}: {first['msg']}.", code="invalid_value", param=param
        ) from error


def _refuse(param: str, given: object) -> None:
    if given:
        raise Invalid(
            f"'{param}' is not supported by this server; leave it out.",
            code="unsupported_parameter",
            param=param,
        )


def _bias(bias: dict[str, float]) -> tuple[tuple[int, float], ...]:
    if not all(token.isdigit() for token in bias):
        raise Invalid(
            "logit_bias maps token ids, written as strings, to numbers from -100 to 100.",
            code="invalid_value",
            param="logit_bias",
        )
    return tuple((int(token), value) for token, value in bias.items())
