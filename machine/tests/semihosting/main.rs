//! Semihosting: programs of ours make calls on both engines, in all modes, and in ways that are no calls.

mod guest;

use std::time::Duration;

use guest::{Guest, Run, engines, run};
use machine::semihosting::{Folder, Settings};

/// -1.
const FAILED: u64 = u64::MAX;

fn folder(path: &std::path::Path) -> Settings {
    Settings { folder: Some(Folder::open(path, false).unwrap()), ..Settings::default() }
}

#[test]
fn console_clock_command_line_and_exit_code() {
    for engine in engines() {
        let settings = Settings { command_line: "program one two".into(), ..Settings::default() };
        let guest = Guest::start(
            engine,
            Some(settings),
            "
                    sys     3, letter           # SYS_WRITEC
                    sys     4, line             # SYS_WRITE0
                    sys     1, open_out         # SYS_OPEN
                    sys     5, write            # SYS_WRITE
                    sys     9, out              # SYS_ISTTY
                    sys     1, open_in
                    sys     6, read             # SYS_READ
                    sysi    7, 0                # SYS_READC
                    sys     6, read             # the end
                    sysi    7, 0
                    sys     0x15, command_line  # SYS_GET_CMDLINE
                    sys     0x15, short
                    sysi    0x13, 0             # SYS_ERRNO
                    sys     0x16, heap_info     # SYS_HEAPINFO
                    sysi    0x10, 0             # SYS_CLOCK
                    sysi    0x11, 0             # SYS_TIME
                    sys     0x30, ticks         # SYS_ELAPSED
                    sysi    0x31, 0             # SYS_TICKFREQ
                    sys     0x12, short         # SYS_SYSTEM
                    sys     0x08, minus         # SYS_ISERROR
                    sys     0x08, open_out
                    sys     0x0c, in            # SYS_FLEN
                    sys     0x0a, in            # SYS_SEEK
                    sysi    0x99, 0
                    sys     0x20, exit          # SYS_EXIT_EXTENDED
            letter: .ascii  \"a\"
            line:   .asciz  \"bc\"
            tt:     .ascii  \":tt\"
                    .balign 8
            open_out: .dword tt, 4, 3
            write:  .dword  1, tt, 3
            out:    .dword  1
            open_in: .dword tt, 0, 3
            in:     .dword  2, 0
            read:   .dword  2, input, 16
            input:  .space  16
            command_line: .dword text, 32
            short:  .dword  text + 24, 15
            text:   .space  40
            heap_info: .dword heap
            heap:   .dword  0, 0, 0, 0
            ticks:  .dword  0
            minus:  .dword  -5
            exit:   .dword  0x20026, 42
            ",
        );
        // The read takes what there is, the next one waits for more.
        guest.wait_for("abc:tt");
        for input in ["xyz", "!"] {
            std::thread::sleep(Duration::from_millis(20));
            guest.console.type_in(input.as_bytes());
            guest.wait_until_read();
        }
        std::thread::sleep(Duration::from_millis(20));
        guest.console.end_input();
        let run = guest.end();
        assert_eq!((run.code, run.output.as_str()), (42, "abc:tt"));
        let results = &run.results;
        assert_eq!(results[2..7], [1, 0, 1, 2, 13]);
        assert_eq!((results[7], results[8], results[9]), ('!'.into(), 16, FAILED));
        assert_eq!(&run.bytes("input", 4), b"xyz\0");
        assert_eq!((results[10], results[11], results[12]), (0, FAILED, 22));
        assert_eq!((run.word("command_line", 1), &run.bytes("text", 16)[..]), (15, &b"program one two\0"[..]));
        assert_eq!(results[13], 0);
        let heap: Vec<u64> = (0..4).map(|index| run.word("heap", index)).collect();
        assert!(heap[0] >= run.symbol("end") && heap[0] < heap[1] && heap[1] <= guest::RAM_END, "{heap:x?}");
        assert_eq!((heap[2], heap[3]), (heap[1], heap[0]));
        assert!(results[15] > 1_700_000_000 && results[16] == 0 && results[17] == 10_000_000);
        let seconds = run.word("ticks", 0) as f64 / 1e7;
        assert!((0.04..60.0).contains(&seconds) && (results[14] as f64 / 100.0 - seconds).abs() < 1.0, "{seconds}");
        assert_eq!(results[18..24], [FAILED, 1, 0, FAILED, FAILED, FAILED]);
    }
}

#[test]
fn files_of_the_folder_and_no_others() {
    let host = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..300_000u32).map(|number| (number * 7) as u8).collect();
    for engine in engines() {
        std::fs::write(host.path().join("in"), &large).unwrap();
        let run = run(
            engine,
            Some(folder(host.path())),
            "
                    sys     1, open_in
                    sys     0x0c, in            # SYS_FLEN
                    sys     6, read
                    sys     6, read_on
                    sys     6, read_on          # the end
                    sys     0x0a, seek          # SYS_SEEK
                    sys     6, read_few
                    sys     9, in               # SYS_ISTTY
                    sys     1, open_out
                    sys     5, write
                    sys     5, write_to_input
                    sys     2, out              # SYS_CLOSE
                    sys     2, out
                    sysi    0x13, 0             # SYS_ERRNO
                    sys     0x0f, rename        # SYS_RENAME
                    sys     1, open_out
                    sys     0x0e, remove        # SYS_REMOVE
                    sys     0x0e, remove
                    sysi    0x13, 0
                    sys     1, open_outside
                    sys     1, open_absolute
                    sysi    0x13, 0
                    sys     1, open_features
                    sys     6, read_features
                    sys     0x0c, open_few
                    sys     0x0d, name          # SYS_TMPNAM
                    sys     0x0d, name_wrong
                    sys     0x18, exit          # SYS_EXIT
                    .balign 8
            open_in: .dword path_in, 0, 2
            path_in: .asciz \"in\"
                    .balign 8
            in:     .dword  1
            read:   .dword  1, buffer, 299990
            read_on: .dword 1, few, 16
            seek:   .dword  1, 256
            read_few: .dword 1, few + 16, 4
            few:    .space  32
            open_out: .dword path_out, 4, 3
            path_out: .asciz \"out\"
                    .balign 8
            out:    .dword  2
            write:  .dword  2, buffer, 200000
            write_to_input: .dword 1, buffer, 5
            rename: .dword  path_out, 3, path_kept, 4
            path_kept: .asciz \"kept\"
                    .balign 8
            remove: .dword  path_out, 3
            open_outside: .dword outside, 4, 10
            outside: .asciz \"../outside\"
            open_absolute: .dword absolute, 0, 11
            absolute: .asciz \"/etc/passwd\"
            open_features: .dword features, 0, 21
            features: .asciz \":semihosting-features\"
                    .balign 8
            read_features: .dword 3, few + 24, 8
            open_few: .dword 3
            name:   .dword  temporary, 7, 32
            name_wrong: .dword temporary, 256, 32
            temporary: .space 32
            exit:   .dword  0x20026, 0
                    .balign 8
            buffer: .space  300000
            ",
        );
        assert_eq!(run.code, 0);
        let results = &run.results;
        assert_eq!(results[..8], [1, 300_000, 0, 6, 16, 0, 0, 0]);
        assert_eq!(run.bytes("buffer", 299_990), large[..299_990]);
        let few = run.bytes("few", 32);
        assert_eq!((&few[..10], &few[16..20], &few[24..30]), (&large[299_990..], &large[256..260], &b"SHFB\x03\0"[..]));
        assert_eq!(results[8..14], [2, 0, 5, 0, FAILED, 9], "five bytes of five are left");
        assert_eq!(results[14..19], [0, 2, 0, FAILED, 2]);
        assert_eq!(results[19..22], [FAILED, FAILED, 13]);
        assert_eq!(results[22..27], [3, 3, 5, 0, FAILED]);
        assert_eq!(run.bytes("temporary", 19), b"semihosting-07.tmp\0");
        assert_eq!(std::fs::read(host.path().join("kept")).unwrap(), large[..200_000]);
        assert!(!host.path().join("out").exists());
    }
}

/// Leads to a lower mode with all of memory open to it.
fn in_mode(mode: u64, body: &str) -> String {
    format!(
        "       li      t0, -1
                csrw    pmpaddr0, t0
                li      t0, 0x1f
                csrw    pmpcfg0, t0
                la      t0, trapped
                csrw    mtvec, t0
                li      t0, 0x1800
                csrc    mstatus, t0
                li      t0, {mode} << 11
                csrs    mstatus, t0
                la      t0, lower
                csrw    mepc, t0
                mret
        lower:  {body}
                sys     0x18, exit
                .balign 8
        exit:   .dword  0x20026, 1
                .balign 4
        trapped: csrr   t0, mcause
                la      a1, cause
                sd      t0, 8(a1)
                csrr    t0, mtval
                sd      t0, 16(a1)
                li      a0, 0x18
                call    semihost
                .balign 8
        cause:  .dword  0x20026, 0, 0
        "
    )
}

#[test]
fn each_mode_that_is_allowed_to() {
    const MACHINE: u64 = 3;
    const SUPERVISOR: u64 = 1;
    const USER: u64 = 0;
    for engine in engines() {
        for (mode, user_mode, code) in
            [(MACHINE, false, 1), (SUPERVISOR, false, 1), (USER, false, 3), (USER, true, 1), (SUPERVISOR, true, 1)]
        {
            let settings = Settings { user_mode, ..Settings::default() };
            let source = in_mode(mode, "sys 4, text\n j 1f\n text: .asciz \"hello\"\n .balign 4\n 1:");
            if code == 3 {
                // The handler is in M-mode, where calls are allowed.
                let run = run(engine, Some(settings), &source);
                assert_eq!((run.code, run.output.as_str()), (3, ""), "mode {mode}: a breakpoint");
                assert_eq!(run.word("cause", 2), run.symbol("semihost") + 4);
            } else {
                let run = run(engine, Some(settings), &source);
                assert_eq!((run.code, run.output.as_str()), (code, "hello"), "mode {mode}");
            }
        }
    }
}

#[test]
fn an_ebreak_that_is_no_call_is_a_breakpoint() {
    let cases = [
        ("a plain one", "ebreak"),
        ("a compressed one", "slli zero, zero, 0x1f\n c.ebreak\n srai zero, zero, 7"),
        ("nothing before", "nop\n ebreak\n srai zero, zero, 7"),
        ("nothing behind", "slli zero, zero, 0x1f\n ebreak\n nop"),
        ("another shift before", "slli zero, zero, 0x1e\n ebreak\n srai zero, zero, 7"),
        ("another shift behind", "slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 8"),
        (
            "over a border, before",
            "j 1f\n .balign 4096\n .space 4092\n 1: slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7",
        ),
        (
            "over a border, behind",
            "j 1f\n .balign 4096\n .space 4088\n 1: slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7",
        ),
    ];
    for engine in engines() {
        for (name, sequence) in cases {
            let source = in_mode(1, &format!("li a0, 4\n la a1, semihost\n {sequence}\n"));
            assert_eq!(run(engine, Some(Settings::default()), &source).code, 3, "{name}");
        }
        // The last three that fit, at an address that only compressed instructions have.
        let fits = "j 1f\n .balign 4096\n .space 4080\n c.nop\n 1: slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7\n j 2f\n\
                    text: .asciz \"fits\"\n .balign 4\n 2:";
        let run = run(engine, Some(Settings::default()), &in_mode(1, &format!("li a0, 4\n la a1, text\n {fits}")));
        assert_eq!((run.code, run.output.as_str()), (1, "fits"));
    }
}

#[test]
fn without_the_option_there_are_no_calls() {
    for engine in engines() {
        let run = run(
            engine,
            None,
            "       la      t0, trapped
                    csrw    mtvec, t0
                    li      a0, 4
                    la      a1, text
                    call    semihost
            text:   .asciz  \"no\"
                    .balign 4
            trapped: csrr   t0, mcause
                    li      t1, 0x3333
                    slli    t0, t0, 16
                    or      t0, t0, t1
                    li      t1, 0x100000
                    sw      t0, 0(t1)
                    j       .
            ",
        );
        assert_eq!((run.code, run.output.as_str()), (3, ""));
    }
}

#[test]
fn memory_that_the_hart_cannot_reach_fails_the_call() {
    // Sv39: the third gigabyte is RAM by a gigapage for S-mode, the fourth by one that is read-only.
    for engine in engines() {
        let run = run(
            engine,
            Some(Settings::default()),
            &format!(
                "       la      t0, root
                        srli    t0, t0, 12
                        li      t1, 8 << 60
                        or      t0, t0, t1
                        csrw    satp, t0
                        {}
                        .balign 4096
                root:   .dword  0, 0, 0x80000 << 10 | 0xcf, 0x80000 << 10 | 0xc3
                        .space  4096 - 32
                ",
                in_mode(
                    1,
                    "   sys     4, good
                        sysi    4, 0x40000000       # unmapped
                        sysi    0x13, 0
                        sysi    4, 0                # no RAM
                        sysi    1, 0x40000000
                        sysi    5, -8
                        sys     1, open
                        sys     1, open_long
                        sys     5, write_far
                        sysi    0x13, 0
                        sys     5, write_endless
                        sys     0x15, read_only
                        sysi    0x13, 0
                        sysi    0x30, 0xc0300000
                        sys     0x16, heap_info
                        sysi    3, 0x40000000
                        li      a0, 0x18
                        li      a1, 0x40000000
                        call    semihost
                        sysi    0x13, 0
                        j       2f
                        .balign 8
                good:   .asciz  \"good \"
                        .balign 8
                tt:     .asciz  \":tt\"
                        .balign 8
                open:   .dword  tt, 4, 3
                open_long: .dword tt, 4, -1
                write_far: .dword 1, 0xbffffffe, 4
                write_endless: .dword 1, good, -1
                read_only: .dword 0xc0300000, 100
                heap_info: .dword 0x40000000
                2:      "
                )
            ),
        );
        assert_eq!(run.code, 1);
        let expected = [0, FAILED, 14, FAILED, FAILED, FAILED, 1, FAILED, 4, 14];
        assert_eq!(run.results[..10], expected);
        // All of RAM behind the string is written; then it is over.
        assert!(run.output.starts_with("good good "));
        let written = run.raw_output.len() as u64 - 5;
        assert_eq!(run.results[10], FAILED - written, "what is left");
        assert_eq!(run.results[11..17], [FAILED, 14, FAILED, FAILED, FAILED, 14]);
    }
}

#[test]
fn a_call_in_hot_code_of_several_harts() {
    const HARTS: u64 = 4;
    const ROUNDS: usize = 2000;
    for engine in engines() {
        let source = format!(
            "       csrr    s1, mhartid
                    la      s3, letters
                    add     s3, s3, s1
                    li      s2, {ROUNDS}
            loop:   li      a0, 3
                    mv      a1, s3
                    call    semihost
                    addi    s2, s2, -1
                    bnez    s2, loop
                    la      t0, left
                    li      t1, -1
                    amoadd.d t1, t1, (t0)
                    li      t0, 1
                    beq     t0, t1, last
            wait:   j       wait
            last:   sys     0x18, exit
            letters: .ascii \"abcdefgh\"
                    .balign 8
            exit:   .dword  0x20026, 5
            left:   .dword  {HARTS}
            "
        );
        let run = Guest::start_with(engine, HARTS, Some(Settings::default()), &source).end();
        assert_eq!(run.code, 5);
        for letter in "abcd".chars() {
            assert_eq!(run.output.chars().filter(|other| *other == letter).count(), ROUNDS, "{letter}");
        }
    }
}

#[test]
fn output_that_there_is_no_room_for_waits_and_none_is_lost() {
    for engine in engines() {
        let mut guest = Guest::start_paused(engine);
        guest.console.limit_output(1000);
        guest.go();
        for round in 1..=20 {
            std::thread::sleep(Duration::from_millis(2));
            assert!(guest.console.output().len() <= 1000 * round);
            guest.console.limit_output(1000);
        }
        guest.console.limit_output(usize::MAX);
        let run: Run = guest.end();
        assert_eq!(run.code, 7);
        let expected: String = (0..100_000).map(|index| char::from(b'a' + (index % 23) as u8)).collect();
        assert!(run.output == format!("{expected}{expected}"), "{} bytes", run.output.len());
    }
}

#[test]
fn exits_of_all_kinds() {
    for (reason, code, expected) in
        [(0x2_0026, 0u64, 0), (0x2_0026, 255, 255), (0x2_0026, 0x1_0203, 3), (0x2_0023, 0, 1), (0, 0, 1)]
    {
        for call in ["0x18", "0x20"] {
            let source = format!("sys {call}, exit\n .balign 8\n exit: .dword {reason}, {code}");
            assert_eq!(run(engines()[0], Some(Settings::default()), &source).code, expected);
        }
    }
}
