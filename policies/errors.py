"""Why a policy pack was not loaded, said so that its author can mend it.

A bad pack never loads: the registry keeps the pack it has, or refuses to start. Findings name
file and key; a pack holds no personal data, so its values may be quoted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernel import ConfigurationError


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a pack: `file` inside the pack, dotted `key`, what is wrong, what to do."""

    file: str
    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else self.file
        return f"{place}: {self.problem}. {self.remedy}."


class PackError(ConfigurationError):
    """The policy pack has faults; nothing of it was loaded."""

    slug = "policy-pack"
    title = "The policy pack is not fit to load"
    remedy = "Mend the places named and run `yinyom policies check`; the old pack stays in force."

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(f"{len(findings)} finding(s)")
        self.findings = tuple(findings)

    def diagnostics(self) -> str:
        """List every finding with its file, key and remedy."""
        lines = [f"  {finding}" for finding in self.findings]
        return "\n".join([f"{self.title}: {self.detail}", *lines, f"Next: {self.remedy}"])
