//! A debugger's side of the remote serial protocol, and a machine for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use cpu::EngineKind;
use cpu::extension::ExtensionSet;
use cpu::isa::assembler::{Program, assemble};
use devices::backend::memory::MemoryBackend;
use devices::virtio::input::PowerKey;
use firmware::image::firmware_from_bytes;
use machine::board::virt::{self, Board, Boot, Virt};
use machine::gdb::{Address, Server, supervise};
use machine::semihosting::Settings;
use machine::{End, Shutdown};

/// How long an answer may take. A loaded host gets much more than it needs.
const LIMIT: Duration = Duration::from_secs(60);

/// The engines that everything is tried with.
pub fn engines() -> [EngineKind; 2] {
    [EngineKind::Interpreter, EngineKind::Jit(cpu::JitOptions { threshold: 2, ..cpu::JitOptions::default() })]
}

/// A board with a bare program.
pub fn board(
    engine: EngineKind,
    harts: u64,
    source: &str,
    console: Arc<MemoryBackend>,
    semihosting: Option<Settings>,
) -> (Board, Program) {
    let program = assemble(source, virt::RAM_BASE, &ExtensionSet::implemented()).unwrap();
    let memory = 4 << 20;
    let image = firmware_from_bytes("program", program.bytes.clone(), &virt::bare_room(memory)).unwrap();
    let boot = Boot::Bare(Arc::new(image));
    let board = Virt { memory, harts, engine, console, semihosting, ..Virt::new(boot) };
    (board.build().unwrap(), program)
}

/// A machine with a bare program, under supervision on a thread of its own.
pub struct Machine {
    pub address: Address,
    pub console: Arc<MemoryBackend>,
    program: Program,
    owner: Option<JoinHandle<u8>>,
}

impl Machine {
    /// A machine that waits for a debugger before it starts.
    pub fn waiting(engine: EngineKind, harts: u64, source: &str) -> Self {
        Self::new(engine, harts, source, true, &"127.0.0.1:0".parse().unwrap())
    }

    /// A machine whose program makes semihosting calls, and that waits.
    pub fn semihosting(engine: EngineKind, source: &str) -> Self {
        Self::build(engine, 1, source, true, &"127.0.0.1:0".parse().unwrap(), Some(Settings::default()))
    }

    pub fn new(engine: EngineKind, harts: u64, source: &str, waits: bool, address: &Address) -> Self {
        Self::build(engine, harts, source, waits, address, None)
    }

    fn build(
        engine: EngineKind,
        harts: u64,
        source: &str,
        waits: bool,
        address: &Address,
        semihosting: Option<Settings>,
    ) -> Self {
        let console = MemoryBackend::new();
        let (mut board, program) = board(engine, harts, source, console.clone(), semihosting);
        let server = Server::bind(address).unwrap();
        let address = server.address().clone();
        let owner = std::thread::spawn(move || {
            let shutdown = Shutdown::new(PowerKey::default(), Duration::ZERO);
            match supervise(&mut board, Some(&server), waits, shutdown).unwrap() {
                End::Guest(code) => code,
                End::User => 0,
            }
        });
        Self { address, console, program, owner: Some(owner) }
    }

    /// The address of a label.
    pub fn symbol(&self, name: &str) -> u64 {
        self.program.symbols[name]
    }

    /// A debugger that has connected and agreed to do without acknowledgements.
    pub fn attach(&self) -> Debugger {
        let mut debugger = self.connect();
        let features = debugger.ask("qSupported:multiprocess+;swbreak+;hwbreak+");
        assert!(features.contains("vContSupported+") && features.contains("binary-upload+"), "{features}");
        assert_eq!(debugger.ask("QStartNoAckMode"), "OK");
        debugger.acknowledges = false;
        debugger
    }

    /// A debugger that has connected and said nothing yet.
    pub fn connect(&self) -> Debugger {
        let Address::Tcp(host, port) = &self.address else { panic!("{}", self.address) };
        let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Debugger { stream, acknowledges: true }
    }

    /// The exit code, once the supervision has ended.
    pub fn exit_code(&mut self) -> u8 {
        self.owner.take().unwrap().join().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed has its own story; the others leave no machine behind.
        if self.owner.is_some() && !std::thread::panicking() {
            self.attach().tell("k");
            assert_eq!(self.exit_code(), 0);
        }
    }
}

/// A connection.
pub struct Debugger {
    stream: TcpStream,
    acknowledges: bool,
}

impl Debugger {
    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a packet.
    pub fn tell(&mut self, body: &str) {
        let sum = body.bytes().fold(0u8, u8::wrapping_add);
        self.send(format!("${body}#{sum:02x}").as_bytes());
    }

    /// The next byte; `None` if the connection has ended.
    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The next packet's body, repetitions expanded; `None` if the connection has ended.
    pub fn packet(&mut self) -> Option<String> {
        while self.byte()? != b'$' {}
        let mut body = Vec::new();
        let mut sum = 0u8;
        loop {
            match self.byte()? {
                b'#' => break,
                byte => {
                    sum = sum.wrapping_add(byte);
                    body.push(byte);
                }
            }
        }
        let digits = [self.byte()?, self.byte()?];
        assert_eq!(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16), Ok(sum));
        if self.acknowledges {
            self.send(b"+");
        }
        let mut expanded = Vec::new();
        let mut bytes = body.into_iter();
        while let Some(byte) = bytes.next() {
            if byte == b'*' {
                let last = *expanded.last().unwrap();
                let count = bytes.next().unwrap() - 29;
                expanded.extend(std::iter::repeat_n(last, count.into()));
            } else {
                expanded.push(byte);
            }
        }
        Some(String::from_utf8(expanded).unwrap())
    }

    /// Sends a packet; the answer.
    #[track_caller]
    pub fn ask(&mut self, body: &str) -> String {
        self.tell(body);
        self.packet().unwrap_or_else(|| panic!("the connection ended at {body}"))
    }

    #[track_caller]
    pub fn ok(&mut self, body: &str) {
        assert_eq!(self.ask(body), "OK", "{body}");
    }

    /// Interrupts the running machine; the stop.
    #[track_caller]
    pub fn interrupt(&mut self) -> String {
        self.send(b"\x03");
        self.packet().unwrap()
    }

    /// Reads a register by its number.
    #[track_caller]
    pub fn register(&mut self, number: usize) -> u64 {
        number_of(&self.ask(&format!("p{number:x}")))
    }

    pub fn set_register(&mut self, number: usize, value: u64) -> String {
        self.ask(&format!("P{number:x}={}", hex(&value.to_le_bytes())))
    }

    #[track_caller]
    pub fn pc(&mut self) -> u64 {
        self.register(32)
    }

    /// Reads a doubleword of memory.
    #[track_caller]
    pub fn doubleword(&mut self, address: u64) -> u64 {
        number_of(&self.ask(&format!("m{address:x},8")))
    }

    /// What a monitor command prints.
    #[track_caller]
    pub fn monitor(&mut self, command: &str) -> String {
        let mut answer = self.ask(&format!("qRcmd,{}", hex(command.as_bytes())));
        let mut text = String::new();
        while let Some(output) = answer.strip_prefix('O').filter(|rest| *rest != "K") {
            text += &String::from_utf8(bytes(output)).unwrap();
            answer = self.packet().unwrap();
        }
        assert_eq!(answer, "OK");
        text
    }

    /// The whole of a document.
    pub fn document(&mut self, name: &str) -> String {
        let mut text = String::new();
        loop {
            let part = self.ask(&format!("qXfer:{name}:{:x},fff", text.len()));
            text += &part[1..];
            match &part[..1] {
                "l" => return text,
                "m" => {}
                _ => panic!("{part}"),
            }
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[track_caller]
fn number_of(answer: &str) -> u64 {
    let bytes = bytes(answer);
    u64::from_le_bytes(bytes.try_into().unwrap_or_else(|_| panic!("{answer}")))
}
