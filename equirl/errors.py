"""The errors equirl raises for mistakes a user can mend; each message is one line.

All derive from `EquirlError`, so a program can tell them from bugs; the command line prints
the message alone and exits with code 2.
"""


class EquirlError(ValueError):
    """A mistake in what the caller gave, said in one line together with what would be right."""


class GroupError(EquirlError):
    """A table is not a group, or generators do not close."""


class SymmetryError(EquirlError):
    """A declared symmetry is not one, or does not fit the spaces it is used with."""


class MethodError(EquirlError):
    """A method of symmetrization is not known, or is given an option or model it cannot use."""


class AgentError(EquirlError):
    """A saved agent is missing, damaged, of another kind, or made for other spaces."""


class UntrustedError(AgentError):
    """A saved agent says something in a pickle only, which could run any code: it is not read.

    Args:
        message: the line.
        remedy: what helps in Python, at its end.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.message = message


class ConfigError(EquirlError):
    """A configuration names something that does not exist or does not fit."""


class EquirlWarning(UserWarning):
    """What is taken as given but is more likely a mistake; said in one line."""


class RunError(RuntimeError):
    """What ended a run that had begun well, such as a full disk; said in one line.

    Args:
        message: the line.
        code: exit code of the command: 2 where other input would mend it, else 1.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
