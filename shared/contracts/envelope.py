"""The envelope: CloudEvents 1.0 with the extensions project, causationid and correlationid."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.context import Context
from shared.errors import Corrupt
from shared.ids import Project, uuid7

# Brokers copy, logs print, erasure has one place: documents travel as blobs, facts as messages.
MAX_MESSAGE_BYTES = 8 * 1024


class Message(BaseModel):
    """A command or a fact. Fields hold ids and facts, never prompts, files or answers.

    Class attributes:
        type: `<aggregate>.<past participle>.v<N>` for facts, with a verb for commands.
        public: Whether outside subscribers may receive it.
    """

    # Tolerant reader: a worker of the previous release survives a new optional field.
    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    public: ClassVar[bool] = False

    @classmethod
    def read(cls, data: object) -> Self:
        """
        The message in an envelope's `data`.

        Raises:
            Corrupt: It is not one of this type; the error quotes nothing of it.
        """
        return _read(cls, data)

    @property
    def subject(self) -> str:
        """The id of what this is about; the envelope's `subject`."""
        raise NotImplementedError

    @property
    def lane(self) -> str | None:
        """Deliveries of one lane are rung in order of emission; None where order is free."""
        return None

    @property
    def coalesce_key(self) -> str | None:
        """While a delivery with this key is unfinished, a further one is dropped."""
        return None


class Envelope(BaseModel):
    """One message on its way. Source: CloudEvents 1.0.2, JSON format."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    project: str
    correlationid: str
    causationid: str
    data: dict[str, Any]

    @classmethod
    def seal(cls, message: Message, context: Context, at: datetime) -> Self:
        """
        Put *message* into an envelope.

        Raises:
            Corrupt: The message is larger than 8 KiB; it should carry a digest instead.
        """
        envelope = cls(
            id=f"evt_{uuid7().hex}",
            type=message.type,
            source=f"perpetune/{context.actor}",
            subject=message.subject,
            time=at,
            project=context.project,
            correlationid=context.correlation_id,
            causationid=context.causation_id,
            data=message.model_dump(mode="json"),
        )
        size = len(envelope.model_dump_json())
        if size > MAX_MESSAGE_BYTES:
            raise Corrupt(
                f"Message {message.type} has {size} bytes, over the limit of {MAX_MESSAGE_BYTES}; "
                "carry a blob digest instead of content.",
                code="message_too_large",
            )
        return envelope

    @classmethod
    def read(cls, stored: object) -> Self:
        """
        The envelope in a stored JSON object.

        Raises:
            Corrupt: It is not one; the error quotes nothing of it.
        """
        return _read(cls, stored)

    def context(self, actor: str) -> Context:
        """The context in which a consumer of this envelope acts."""
        return Context(
            project=Project(self.project),
            actor=actor,
            correlation_id=self.correlationid,
            causation_id=self.id,
        )


_Read = TypeVar("_Read", bound=BaseModel)


def _read(kind: type[_Read], value: object) -> _Read:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        # Reasons are stored and logged; what a message says belongs to its project alone.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Corrupt(
            f"{kind.__name__} cannot be read{where and f' at {where}'}: {first['msg']}.",
            code="message_unreadable",
        ) from None
