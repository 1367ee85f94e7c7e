"""A guest, and a test as its user."""

import os
import select
import subprocess
import time

PROMPT = b":~# "


class Guest:
    """A running machine with a shell on its console, started by `command`; `first` is what it says when it is there."""

    def __init__(self, command, environment=None, first=PROMPT, limit=300):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        self.output = b""
        self.position = 0
        self.expect(first, limit)

    def send(self, text):
        """Types `text`."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def log_in(self, user, password):
        """Answers a login prompt."""
        self.send(f"{user}\n")
        self.expect(b"Password: ")
        self.send(f"{password}\n")
        self.expect(PROMPT)

    def wait(self, limit):
        """Waits until the machine has ended; its exit status."""
        end = time.monotonic() + limit
        while select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                break
            self.output += data
        return self.process.wait(max(1, end - time.monotonic()))

    def expect(self, text, limit=300):
        """Waits for `text`; what came before it."""
        end = time.monotonic() + limit
        while text not in self.output[self.position :]:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                rest = self.output[self.position :][-2000:].decode(errors="replace")
                raise RuntimeError(f"{text} did not come: {rest}")
            self.output += data
        found = self.output.index(text, self.position)
        before = self.output[self.position : found]
        self.position = found + len(text)
        return before.decode(errors="replace")

    def try_run(self, command, limit=300):
        """Has the shell run a command; its exit status and output."""
        # The echo of the line, which may be cut into lines of the terminal's, does not hold these marks.
        self.send(f"echo 'be''gin'; {command}; echo 'sta''tus='$?\n")
        self.expect(b"begin\r\n", limit)
        output = self.expect(b"status=", limit)
        status = int(self.expect(b"\r", limit))
        self.expect(PROMPT, limit)
        return status, output

    def run(self, command, limit=300):
        """The same for a command that has to succeed; its output."""
        status, output = self.try_run(command, limit)
        if status != 0:
            raise RuntimeError(f"{command}: exit status {status}: {output}")
        return output

    def configured(self):
        """Waits for an address; it."""
        self.run("until ip route | grep -q default; do sleep 0.1; done")
        return self.run("ip -4 addr show eth0 | grep -o '10.0.2.[0-9]*/' | tr -d /").strip()

    def kill(self):
        self.process.kill()
        self.process.wait()
