"""Who acts, for whom, and because of what; bound at the boundary, carried by every message."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.ids import Project, uuid7


@dataclass(frozen=True, slots=True)
class Context:
    """
    Attributes:
        project: The tenant everything in this unit of work belongs to.
        actor: Who acts: `key:<key id>`, `task:<name>`, `process:<name>`.
        correlation_id: Shared by all that follows from one outside cause.
        causation_id: The message or request that caused this step.
    """

    project: Project
    actor: str
    correlation_id: str
    causation_id: str

    @classmethod
    def root(cls, project: Project, actor: str, request_id: str | None = None) -> Context:
        """The context of something that begins here."""
        cause = request_id or f"req_{uuid7().hex}"
        return cls(project=project, actor=actor, correlation_id=cause, causation_id=cause)

    def caused_by(self, message_id: str, actor: str) -> Context:
        """The context of a step that the message *message_id* causes."""
        return replace(self, causation_id=message_id, actor=actor)
