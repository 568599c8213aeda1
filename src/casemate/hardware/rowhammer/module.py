"""The memory module that a deployed model lies in, as a campaign names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - what a campaign may write is read from the annotation
from typing import TYPE_CHECKING, Any

from casemate.errors import ParameterError, did_you_mean
from casemate.hardware.parameters import check_whole
from casemate.hardware.placement import Everywhere
from casemate.hardware.rowhammer.page_budget import PageBudget
from casemate.hardware.rowhammer.pages import Reach, laid_out, page_count
from casemate.hardware.rowhammer.synthetic import synthetic
from casemate.hardware.rowhammer.template import MOST_PAGES, PROFILES
from casemate.hardware.rowhammer.template_file import load_template
from casemate.identity import digest_file

if TYPE_CHECKING:
    from casemate.hardware.memory import Memory
    from casemate.hardware.rowhammer.template import Template
    from casemate.random import Stream

__all__ = ["MemoryModule"]


@dataclass(frozen=True, kw_only=True)
class MemoryModule:
    """A DRAM module whose weak cells the attacker has profiled, and flips by hammering.

    The attacker puts each page of the model's file on the profiled page that suits it (Yao, Rakin
    and Fan, "DeepHammer", USENIX Security 2020).

    Attributes:
        profile: A module of Tatar et al. (RAID 2018), whose count of weak cells and share of
            directions a synthetic template gets: A_2, A_3, B_1, C_1, D_1, E_2, G_1, H_1, I_1 or
            J_1.
        pages: How many pages of 4 KiB the attacker has profiled; 32,768 are 128 MiB.
        per_page: Flips a page at most; DeepHammer makes one.
        file: A measured template in place of a synthetic one (docs/hardware-attacks.md); `profile`
            and `pages` are then of no consequence.
    """

    profile: str = "G_1"
    pages: int = 32768
    per_page: int = 1
    file: Path | None = None

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ParameterError(
                "profile", f'has no "{self.profile}".{did_you_mean(self.profile, PROFILES)}'
            )
        check_whole("pages", self.pages, high=MOST_PAGES)
        check_whole("per_page", self.per_page)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides which bits flip, as plain JSON data: of a file its name and content."""
        if self.file is None:
            return {"profile": self.profile, "pages": self.pages, "per_page": self.per_page}
        try:
            digest = digest_file(self.file)
        except OSError:
            digest = "unreadable"  # which `check` says
        return {"file": self.file.name, "content": digest, "per_page": self.per_page}

    def check(self, memory: Memory) -> None:
        """Raise `UsageError` if the template cannot be read, or the model does not fit on it."""
        pages = page_count(memory)
        if self.file is None and self.pages < pages:
            raise ParameterError(
                "pages",
                f"is {self.pages}, but the deployed model takes {pages} pages of 4096 bytes; "
                "profile at least as many",
            )
        if self.file is not None:
            laid_out(memory, load_template(self.file))

    def template(self, rng: Stream) -> Template:
        """Return the module's weak cells.

        Args:
            rng: What a synthetic template is drawn by.

        Raises:
            UsageError: If the file cannot be read or is none.
        """
        if self.file is not None:
            return load_template(self.file)
        profile = PROFILES[self.profile]
        return synthetic(
            rng.numpy(), pages=self.pages, density=profile.density, up_share=profile.up_share
        )

    def reach(self, memory: Memory, rng: Stream, among: Everywhere | None = None) -> PageBudget:
        """Return which bits can flip, alone and together.

        Args:
            memory: The model's.
            rng: As for `template`.
            among: Which bits the attacker cares for; those of weights if omitted.

        Raises:
            UsageError: If the model does not fit on the profiled pages, or as `template`.
        """
        template = self.template(rng)
        laid_out(memory, template)  # refuses too few pages
        reach = Reach(memory, template, among or Everywhere())
        return PageBudget(reach, most_per_page=self.per_page)
