"""A guest of the quick start, and a test as its user."""

import os
import select
import subprocess
import time

PROMPT = b":~# "


class Guest:
    """A running machine; `options` are those of `vervet run`."""

    def __init__(self, vervet, *options, environment=None):
        environment = {**os.environ, **(environment or {})}
        command = [vervet, "run", "-m", "512", *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        self.output = b""
        self.position = 0

    def expect(self, text, limit=180):
        """Waits for `text`; what came before it."""
        end = time.monotonic() + limit
        while text not in self.output[self.position :]:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise RuntimeError(f"{text} did not come: {self.output[self.position:][-2000:].decode(errors='replace')}")
            self.output += data
        found = self.output.index(text, self.position)
        before = self.output[self.position : found]
        self.position = found + len(text)
        return before.decode(errors="replace")

    def boot(self):
        self.expect(PROMPT)

    def run(self, command, limit=180):
        """Has the shell run a command that has to succeed; its output."""
        self.process.stdin.write(command.encode() + b'; echo "<$?>"\n')
        self.process.stdin.flush()
        self.expect(b'"<$?>"\r\n', limit)
        output = self.expect(b"<", limit)
        while not self.output[self.position :].startswith(b"0>"):
            if self.output[self.position :][:4].strip(b"0123456789") == b">":
                raise RuntimeError(f"{command}: failed: {output}")
            output += "<" + self.expect(b"<", limit)
        self.expect(PROMPT, limit)
        return output

    def configured(self):
        """Waits for an address; it."""
        self.run("i=0; until ip route | grep -q default || [ $i = 300 ]; do i=$((i + 1)); sleep 0.1; done")
        return self.run("ip -4 addr show eth0 | grep -o '10.0.2.[0-9]*/' | tr -d /").strip()

    def kill(self):
        self.process.kill()
        self.process.wait()
