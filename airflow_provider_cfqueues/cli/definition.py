"""
The commands of ``airflow cfqueues`` and ``python -m airflow_provider_cfqueues``, in one table.

Every ``airflow`` command loads this module, so it imports next to nothing; what a command does is loaded when it runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_provider_cfqueues.emulator.options import OPTIONS

HELP = "Create, look at, fill and empty Cloudflare queues"


class Argument(NamedTuple):
    """An argument: its flags, and the options of ``argparse``."""

    flags: tuple[str, ...]
    options: dict[str, Any]


class Command(NamedTuple):
    """A command. Its work is done by the function of its name, in the module of its name beside this one."""

    name: str
    help: str
    description: str
    arguments: tuple[Argument, ...]

    @property
    def function(self) -> str:
        """Where the function is."""
        return f"{__package__}.{self.name}.{self.name}"


def _argument(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


def _count(flag: str, text: str, **options: Any) -> Argument:
    return _argument(flag, type=int, metavar="N", help=text, **options)


def number(text: str) -> float:
    """Return a number that an error shows as it was typed: a whole one has no ``.0``."""
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def _seconds(flag: str, text: str, **options: Any) -> Argument:
    return _argument(flag, type=number, metavar="SECONDS", help=text, **options)


CONNECTION = _argument(
    "--conn-id", default="cloudflare_default", metavar="ID", help="the Airflow connection (cloudflare_default)"
)
JSON = _argument("--json", action="store_true", help="print the result as JSON")
QUEUE = _argument("queue", metavar="QUEUE", help="name of the queue, or its ID")
MAX = _count("--max", "pull at most this many messages (all)", dest="max_messages")
MATCH = "only messages that match literal:BODY, jsonpath:PATH or function:PATH; if repeated, any of them"
IDLE_TIMEOUT = _seconds("--idle-timeout", "stop when the queue had no messages for so long (5)", default=5)

COMMANDS = (
    Command(
        "ping",
        "Check whether a connection works, and what it may do",
        "Verify the credentials, and try what they may do: list queues, read metrics and the consumer, and peek, which "
        "needs the permission to write. Nothing is leased or changed. Exits with 1 if it fails.",
        (_argument("queue", nargs="?", metavar="QUEUE", help="the queue to try (the first of the list)"),),
    ),
    Command(
        "queues",
        "List the queues with their backlog",
        "List the queues of the account with backlog, size and the age of the oldest message: one request per queue.",
        (_argument("queue", nargs="*", metavar="QUEUE", help="names of queues, or IDs (all)"),),
    ),
    Command(
        "create",
        "Create a queue that can be pulled",
        "Create a queue with a pull consumer. If one or both exist, only the settings that you give are changed. "
        "Cloudflare creates a dead-letter queue that does not exist, but without a consumer: to redrive it later, run "
        "create for it as well.",
        (
            _argument("queue", metavar="NAME", help="name of the queue"),
            _argument("--dead-letter-queue", metavar="NAME", help="where messages go after their last delivery (none)"),
            _count("--max-retries", "deliveries before a message leaves the queue (3)", dest="consumer_max_retries"),
            _seconds("--retry-delay", "how long a retried message waits (0)", dest="consumer_retry_delay"),
            _seconds("--visibility-timeout", "how long a lease lasts (30)"),
            _count("--batch-size", "messages per pull, if the pull gives no number"),
            _seconds("--delivery-delay", "how long a new message waits (0)"),
            _seconds("--retention", "how long a message is kept (4 days)", dest="message_retention_period"),
        ),
    ),
    Command(
        "peek",
        "Look at messages without leasing them",
        "Show the head of a queue. Nothing is leased, and no delivery is counted.",
        (QUEUE, _count("--max", "at most this many messages, up to 100 (10)", dest="max_messages", default=10)),
    ),
    Command(
        "send",
        "Send messages",
        "Send messages given as arguments, or the lines of a file or of stdin, each line a message. A JSON object or "
        "array is sent as json, anything else as text. All messages are checked first: if one of them cannot be sent, "
        "nothing is sent.",
        (
            QUEUE,
            _argument("message", nargs="*", metavar="MESSAGE", help="messages; none = lines from stdin"),
            _argument("--file", metavar="FILE", help="a file of messages, one a line; - is stdin"),
            _argument("--drained", action="store_true", help="drain wrote the lines: send the original messages"),
            _argument("--text", action="store_true", help="send each message as text, even an empty one"),
            _seconds("--delay", "how long they wait before they are delivered"),
        ),
    ),
    Command(
        "drain",
        "Pull messages into a file, and ack what is written",
        "Pull messages and write them as JSON lines. A message is acked only when its line is written and synced to "
        "the disk. Ctrl-C writes and acks what is leased, and pulls nothing more.",
        (
            QUEUE,
            _argument("--output", default="-", metavar="FILE", help="the file to append to; - is stdout (-)"),
            MAX,
            _seconds("--visibility-timeout", "how long the leases last, while a batch is written (300)", default=300),
            IDLE_TIMEOUT,
        ),
    ),
    Command(
        "redrive",
        "Move messages from a dead-letter queue back to a queue",
        "Move messages to another queue: pull, send, and only then ack. From a copy that QueueProcessOperator made of "
        "a rejected message, the original message is sent. Ctrl-C acks what was sent and gives the rest back.",
        (
            QUEUE,
            _argument("target", metavar="TARGET", help="name of the queue that gets the messages, or its ID"),
            _argument("--match", action="append", metavar="CONDITION", help=MATCH),
            _argument(
                "--rate",
                dest="messages_per_second",
                type=number,
                metavar="N",
                help="at most N messages a second (the API's limit)",
            ),
            _argument("--as-is", action="store_true", help="send copies of rejected messages unchanged"),
            MAX,
            _seconds("--visibility-timeout", "how long the leases last (600)"),
            IDLE_TIMEOUT,
        ),
    ),
    Command(
        "emulator",
        "Run an emulator of Cloudflare Queues",
        "Run the emulator until Ctrl-C; its first line on stdout has its address. It needs the extra named emulator.",
        tuple(_argument(flag, **options) for flag, options in OPTIONS.items()),
    ),
)


def arguments_of(command: Command) -> tuple[Argument, ...]:
    """Return all arguments of a command: its own, and those that all have."""
    return command.arguments if command.name == "emulator" else (*command.arguments, CONNECTION, JSON)


def option_of(command_name: str, argument: str) -> str:
    """
    Return the option that sets an argument, as it is typed; the argument itself if no option does.

    :param command_name: name of the command.
    :param argument: the name that the command's code knows it by.
    """
    (command,) = (command for command in COMMANDS if command.name == command_name)
    options = {one.options.get("dest") or one.flags[0][2:].replace("-", "_"): one.flags[0] for one in command.arguments}
    return options.get(argument, argument)


def get_cli_commands() -> list[Any]:
    """Return the commands as Airflow has them, from 3.2 on."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

    commands = [
        ActionCommand(
            name=command.name,
            help=command.help,
            description=command.description,
            func=lazy_load_command(command.function),
            args=[Arg(flags=argument.flags, **argument.options) for argument in arguments_of(command)],
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name="cfqueues", help=HELP, subcommands=commands)]
