# The monitor: what runs when there is no operating system to run.
#
# An S-mode program for any RV64IMA machine with an SBI that has the debug console (DBCN), timer (TIME) and system reset
# (SRST) extensions. It is entered as a kernel is: a0 holds the hart's number, a1 the address of the device tree. It runs
# from wherever it is loaded, without translation, and its stack and buffers follow it in memory.
#
# Conventions are those of the ABI. s11 holds the device tree, s10 the number of the hart; nothing else is global.

start:
        mv      s10, a0
        mv      s11, a1
        la      sp, stack_top
        la      t0, trap
        csrw    stvec, t0
        csrw    sie, zero
        la      a0, text_banner
        call    print
        call    command_info
        call    command_benchmark
        la      a0, text_hint
        call    print

# Reads a line, runs its command, for ever. Traps come back here.
prompt:
        la      sp, stack_top
        la      a0, text_prompt
        call    print
        call    read_line
        la      s0, line
        mv      a0, s0
        call    skip_spaces
        mv      s0, a0
        lbu     t0, 0(s0)
        beqz    t0, prompt

        mv      a0, s0
        la      a1, name_help
        call    match_word
        bnez    a0, run_help
        mv      a0, s0
        la      a1, name_info
        call    match_word
        bnez    a0, run_info
        mv      a0, s0
        la      a1, name_memory
        call    match_word
        bnez    a0, run_memory
        mv      a0, s0
        la      a1, name_csr
        call    match_word
        bnez    a0, run_csr
        mv      a0, s0
        la      a1, name_devices
        call    match_word
        bnez    a0, run_devices
        mv      a0, s0
        la      a1, name_benchmark
        call    match_word
        bnez    a0, run_benchmark
        mv      a0, s0
        la      a1, name_poweroff
        call    match_word
        bnez    a0, run_poweroff
        mv      a0, s0
        la      a1, name_reboot
        call    match_word
        bnez    a0, run_reboot

        la      a0, text_unknown
        call    print
        mv      a0, s0
        call    print
        la      a0, text_unknown_end
        call    print
        j       prompt

run_help:
        la      a0, text_help
        call    print
        j       prompt
run_info:
        call    command_info
        j       prompt
run_memory:
        call    command_memory
        j       prompt
run_csr:
        call    command_csr
        j       prompt
run_devices:
        call    command_devices
        j       prompt
run_benchmark:
        call    command_benchmark
        j       prompt
run_poweroff:
        li      a0, 0
        j       reset
run_reboot:
        li      a0, 1
# SBI system reset of type a0. Returns to the prompt only if the machine refuses.
reset:
        li      a1, 0
        li      a6, 0
        li      a7, 0x53525354
        ecall
        la      a0, text_refused
        call    print
        j       prompt

# Any trap: what a command touched is not there. Says so and goes back to the prompt.
        .balign 4
trap:
        la      sp, stack_top
        la      a0, text_trap
        call    print
        csrr    a0, scause
        call    print_hex
        la      a0, text_trap_value
        call    print
        csrr    a0, stval
        call    print_hex
        la      a0, text_trap_pc
        call    print
        csrr    a0, sepc
        call    print_hex
        call    print_newline
        j       prompt

# ---- info ----------------------------------------------------------------------------------------------------------

command_info:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        sd      s0, 0(sp)
        la      a0, text_model
        call    print
        la      a0, node_root
        la      a1, property_model
        call    print_property
        la      a0, text_isa
        call    print
        la      a0, node_cpu
        la      a1, property_isa
        call    print_property
        la      a0, text_mmu
        call    print
        la      a0, node_cpu
        la      a1, property_mmu
        call    print_property
        la      a0, text_harts
        call    print
        call    count_harts
        call    print_decimal
        la      a0, text_this_hart
        call    print
        mv      a0, s10
        call    print_decimal
        la      a0, text_memory
        call    print
        la      a0, node_memory
        la      a1, property_reg
        call    find_property
        beqz    a0, info_no_memory
        mv      s0, a0
        call    big_endian_64
        call    print_hex
        la      a0, text_size
        call    print
        addi    a0, s0, 8
        call    big_endian_64
        srli    a0, a0, 20
        call    print_decimal
        la      a0, text_mebibytes
        call    print
info_no_memory:
        la      a0, text_console
        call    print
        la      a0, node_chosen
        la      a1, property_stdout
        call    print_property
        la      a0, text_arguments
        call    print
        la      a0, node_chosen
        la      a1, property_bootargs
        call    print_property
        la      a0, text_tree
        call    print
        mv      a0, s11
        call    print_hex
        la      a0, text_sbi
        call    print
        li      a6, 0
        li      a7, 0x10
        ecall
        mv      s0, a1
        srli    a0, s0, 24
        call    print_decimal
        la      a0, text_dot
        call    print
        slli    a0, s0, 40
        srli    a0, a0, 40
        call    print_decimal
        la      a0, text_implementation
        call    print
        li      a6, 1
        li      a7, 0x10
        ecall
        mv      a0, a1
        call    print_hex
        call    print_newline
        ld      s0, 0(sp)
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# Prints the string property a1 of the node a0, or a dash.
print_property:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        call    find_property
        bnez    a0, print_property_found
        la      a0, text_dash
print_property_found:
        call    print
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# ---- memory --------------------------------------------------------------------------------------------------------

# memory ADDRESS [BYTES]: both hexadecimal; 64 bytes if not told.
command_memory:
        addi    sp, sp, -48
        sd      ra, 40(sp)
        sd      s0, 32(sp)
        sd      s1, 24(sp)
        sd      s2, 16(sp)
        sd      s3, 8(sp)
        mv      a0, s0
        call    skip_word
        call    parse_hex
        beqz    a1, memory_usage
        andi    s1, a2, -16
        li      s2, 64
        call    parse_hex
        beqz    a1, memory_size_known
        mv      s2, a2
memory_size_known:
        add     s2, s1, s2
memory_row:
        bgeu    s1, s2, memory_done
        mv      a0, s1
        call    print_hex
        la      a0, text_colon
        call    print
        li      s3, 0
memory_byte:
        add     t0, s1, s3
        lbu     a0, 0(t0)
        call    print_byte
        la      a0, text_space
        call    print
        addi    s3, s3, 1
        li      t0, 16
        bltu    s3, t0, memory_byte
        la      a0, text_space
        call    print
        li      s3, 0
memory_character:
        add     t0, s1, s3
        lbu     a0, 0(t0)
        li      t0, 32
        bltu    a0, t0, memory_dot
        li      t0, 127
        bltu    a0, t0, memory_printable
memory_dot:
        li      a0, 46
memory_printable:
        call    put
        addi    s3, s3, 1
        li      t0, 16
        bltu    s3, t0, memory_character
        call    print_newline
        addi    s1, s1, 16
        # Past the last address comes the end.
        bnez    s1, memory_row
memory_done:
        ld      s3, 8(sp)
        ld      s2, 16(sp)
        ld      s1, 24(sp)
        ld      s0, 32(sp)
        ld      ra, 40(sp)
        addi    sp, sp, 48
        ret
memory_usage:
        la      a0, text_memory_usage
        call    print
        j       memory_done

# ---- csr -----------------------------------------------------------------------------------------------------------

command_csr:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        la      a0, csr_sstatus
        csrr    a1, sstatus
        call    print_register
        la      a0, csr_sie
        csrr    a1, sie
        call    print_register
        la      a0, csr_sip
        csrr    a1, sip
        call    print_register
        la      a0, csr_stvec
        csrr    a1, stvec
        call    print_register
        la      a0, csr_scounteren
        csrr    a1, scounteren
        call    print_register
        la      a0, csr_senvcfg
        csrr    a1, senvcfg
        call    print_register
        la      a0, csr_sscratch
        csrr    a1, sscratch
        call    print_register
        la      a0, csr_sepc
        csrr    a1, sepc
        call    print_register
        la      a0, csr_scause
        csrr    a1, scause
        call    print_register
        la      a0, csr_stval
        csrr    a1, stval
        call    print_register
        la      a0, csr_satp
        csrr    a1, satp
        call    print_register
        la      a0, csr_cycle
        csrr    a1, cycle
        call    print_register
        la      a0, csr_time
        csrr    a1, time
        call    print_register
        la      a0, csr_instret
        csrr    a1, instret
        call    print_register
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# Prints the name a0 and the value a1.
print_register:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        sd      s0, 0(sp)
        mv      s0, a1
        call    print
        mv      a0, s0
        call    print_hex_16
        call    print_newline
        ld      s0, 0(sp)
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# ---- devices -------------------------------------------------------------------------------------------------------

# Walks the device tree: each node, indented, with the first string of its "compatible".
command_devices:
        addi    sp, sp, -48
        sd      ra, 40(sp)
        sd      s0, 32(sp)
        sd      s1, 24(sp)
        sd      s2, 16(sp)
        sd      s3, 8(sp)
        call    tree_start
        mv      s0, a0
        li      s1, 0
devices_token:
        mv      a0, s0
        call    tree_next
        # a0: what it is, a1: its name, a2: its value, a3: the next token
        mv      s0, a3
        mv      s2, a1
        mv      s3, a2
        li      t0, 1
        beq     a0, t0, devices_node
        li      t0, 2
        beq     a0, t0, devices_end_node
        li      t0, 3
        bne     a0, t0, devices_done
        mv      a0, s2
        la      a1, property_compatible
        call    same_string
        beqz    a0, devices_token
        la      a0, text_column
        call    print
        mv      a0, s3
        call    print
        j       devices_token
devices_node:
        beqz    s1, devices_name
        call    print_newline
devices_name:
        mv      a0, s1
        call    print_indent
        lbu     t0, 0(s2)
        bnez    t0, devices_named
        la      s2, text_slash
devices_named:
        mv      a0, s2
        call    print
        addi    s1, s1, 1
        j       devices_token
devices_end_node:
        addi    s1, s1, -1
        j       devices_token
devices_done:
        call    print_newline
        ld      s3, 8(sp)
        ld      s2, 16(sp)
        ld      s1, 24(sp)
        ld      s0, 32(sp)
        ld      ra, 40(sp)
        addi    sp, sp, 48
        ret

print_indent:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        sd      s0, 0(sp)
        mv      s0, a0
indent_level:
        beqz    s0, indent_done
        la      a0, text_indent
        call    print
        addi    s0, s0, -1
        j       indent_level
indent_done:
        ld      s0, 0(sp)
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# ---- benchmark -----------------------------------------------------------------------------------------------------

command_benchmark:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        la      a0, text_integer
        la      a1, work_integer
        call    measure
        la      a0, text_walk
        la      a1, work_memory
        call    measure
        la      a0, text_calls
        la      a1, work_calls
        call    measure
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# Prints the title a0, runs the work a1 and prints what it took by the counters instret and time.
measure:
        addi    sp, sp, -48
        sd      ra, 40(sp)
        sd      s0, 32(sp)
        sd      s1, 24(sp)
        sd      s2, 16(sp)
        mv      s0, a1
        call    print
        csrr    s1, time
        csrr    s2, instret
        jalr    s0
        csrr    t0, instret
        csrr    t1, time
        sub     s2, t0, s2
        sub     s1, t1, s1
        # Microseconds: ticks * 1000000 / frequency.
        la      a0, node_cpus
        la      a1, property_timebase
        call    find_property
        beqz    a0, measure_done
        call    big_endian_32
        beqz    a0, measure_done
        li      t0, 1000000
        mul     s1, s1, t0
        divu    s1, s1, a0
        bnez    s1, measure_print
        li      s1, 1
measure_print:
        mv      a0, s2
        call    print_decimal
        la      a0, text_instructions
        call    print
        mv      a0, s1
        call    print_decimal
        la      a0, text_microseconds
        call    print
        divu    a0, s2, s1
        call    print_decimal
        la      a0, text_per_second
        call    print
measure_done:
        ld      s2, 16(sp)
        ld      s1, 24(sp)
        ld      s0, 32(sp)
        ld      ra, 40(sp)
        addi    sp, sp, 48
        ret

# A xorshift generator and a sum: arithmetic with a dependence from each step to the next.
work_integer:
        li      t0, 2000000
        li      t1, 88172645463325252
        li      a0, 0
integer_step:
        slli    t2, t1, 13
        xor     t1, t1, t2
        srli    t2, t1, 7
        xor     t1, t1, t2
        slli    t2, t1, 17
        xor     t1, t1, t2
        mul     t2, t1, t0
        add     a0, a0, t2
        addi    t0, t0, -1
        bnez    t0, integer_step
        ret

# Sums and rewrites a buffer of 64 KiB, again and again.
work_memory:
        li      t0, 300
memory_pass:
        la      t1, scratch
        li      t2, 65536
        add     t2, t1, t2
memory_word:
        ld      t3, 0(t1)
        ld      t4, 8(t1)
        add     t3, t3, t4
        addi    t3, t3, 1
        sd      t3, 0(t1)
        sd      t4, 8(t1)
        addi    t1, t1, 16
        bltu    t1, t2, memory_word
        addi    t0, t0, -1
        bnez    t0, memory_pass
        ret

# Fibonacci by its definition: calls, returns and branches that depend on data.
work_calls:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        li      a0, 27
        call    fibonacci
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret
fibonacci:
        li      t0, 2
        bltu    a0, t0, fibonacci_small
        addi    sp, sp, -32
        sd      ra, 24(sp)
        sd      s0, 16(sp)
        sd      s1, 8(sp)
        mv      s0, a0
        addi    a0, s0, -1
        call    fibonacci
        mv      s1, a0
        addi    a0, s0, -2
        call    fibonacci
        add     a0, a0, s1
        ld      s1, 8(sp)
        ld      s0, 16(sp)
        ld      ra, 24(sp)
        addi    sp, sp, 32
fibonacci_small:
        ret

# ---- device tree ---------------------------------------------------------------------------------------------------

# The first token of the structure block (Devicetree Specification, "Flattened Devicetree Format").
tree_start:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        addi    a0, s11, 8
        call    big_endian_32
        add     a0, a0, s11
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# Reads the token at a0, past any NOP. Returns what it is in a0 (1 a node begins, 2 a node ends, 3 a property, else the
# end), its name in a1, its value in a2 with its length in a4, and the place of the next token in a3.
tree_next:
        addi    sp, sp, -48
        sd      ra, 40(sp)
        sd      s0, 32(sp)
        sd      s1, 24(sp)
        sd      s2, 16(sp)
        mv      s0, a0
tree_token:
        mv      a0, s0
        call    big_endian_32
        addi    s0, s0, 4
        li      t0, 4
        beq     a0, t0, tree_token
        mv      s1, a0
        li      t0, 1
        beq     s1, t0, tree_node
        li      t0, 3
        bne     s1, t0, tree_plain
        mv      a0, s0
        call    big_endian_32
        mv      s2, a0
        addi    a0, s0, 4
        call    big_endian_32
        mv      a1, a0
        addi    a0, s11, 12
        call    big_endian_32
        add     a1, a1, a0
        add     a1, a1, s11
        addi    a2, s0, 8
        mv      a4, s2
        add     a3, a2, s2
        addi    a3, a3, 3
        andi    a3, a3, -4
        j       tree_return
tree_node:
        mv      a1, s0
        mv      a3, s0
tree_name:
        lbu     t0, 0(a3)
        addi    a3, a3, 1
        bnez    t0, tree_name
        addi    a3, a3, 3
        andi    a3, a3, -4
        j       tree_return
tree_plain:
        mv      a3, s0
tree_return:
        mv      a0, s1
        ld      s2, 16(sp)
        ld      s1, 24(sp)
        ld      s0, 32(sp)
        ld      ra, 40(sp)
        addi    sp, sp, 48
        ret

# Finds the property named a1 in the first node that has it and whose name starts with a0; an empty a0 is the root.
# Returns its value in a0, or zero.
find_property:
        addi    sp, sp, -64
        sd      ra, 56(sp)
        sd      s0, 48(sp)
        sd      s1, 40(sp)
        sd      s2, 32(sp)
        sd      s3, 24(sp)
        sd      s4, 16(sp)
        sd      s5, 8(sp)
        mv      s0, a0
        mv      s1, a1
        li      s3, 0
        call    tree_start
        mv      s2, a0
find_token:
        mv      a0, s2
        call    tree_next
        mv      s2, a3
        mv      s4, a1
        mv      s5, a2
        li      t0, 1
        beq     a0, t0, find_node
        li      t0, 2
        beq     a0, t0, find_leave
        li      t0, 3
        bne     a0, t0, find_nothing
        beqz    s3, find_token
        mv      a0, s4
        mv      a1, s1
        call    same_string
        beqz    a0, find_token
        mv      a0, s5
        j       find_return
# s3 tells whether the node that properties belong to is one that is asked for. Properties come before children.
find_node:
        mv      a0, s4
        mv      a1, s0
        call    starts_with
        mv      s3, a0
        lbu     t0, 0(s0)
        bnez    t0, find_token
        lbu     t0, 0(s4)
        seqz    s3, t0
        j       find_token
find_leave:
        li      s3, 0
        j       find_token
find_nothing:
        li      a0, 0
find_return:
        ld      s5, 8(sp)
        ld      s4, 16(sp)
        ld      s3, 24(sp)
        ld      s2, 32(sp)
        ld      s1, 40(sp)
        ld      s0, 48(sp)
        ld      ra, 56(sp)
        addi    sp, sp, 64
        ret

# The number of nodes whose name starts with "cpu@".
count_harts:
        addi    sp, sp, -32
        sd      ra, 24(sp)
        sd      s0, 16(sp)
        sd      s1, 8(sp)
        li      s1, 0
        call    tree_start
        mv      s0, a0
count_token:
        mv      a0, s0
        call    tree_next
        mv      s0, a3
        li      t0, 1
        beq     a0, t0, count_node
        li      t0, 2
        beq     a0, t0, count_token
        li      t0, 3
        beq     a0, t0, count_token
        mv      a0, s1
        ld      s1, 8(sp)
        ld      s0, 16(sp)
        ld      ra, 24(sp)
        addi    sp, sp, 32
        ret
count_node:
        mv      a0, a1
        la      a1, node_cpu
        call    starts_with
        add     s1, s1, a0
        j       count_token

# The big-endian number at a0, of 32 bits; changes a0, t0 and t1 alone.
big_endian_32:
        lbu     t0, 0(a0)
        slli    t0, t0, 8
        lbu     t1, 1(a0)
        or      t0, t0, t1
        slli    t0, t0, 8
        lbu     t1, 2(a0)
        or      t0, t0, t1
        slli    t0, t0, 8
        lbu     t1, 3(a0)
        or      a0, t0, t1
        ret

big_endian_64:
        addi    sp, sp, -32
        sd      ra, 24(sp)
        sd      s0, 16(sp)
        sd      s1, 8(sp)
        mv      s0, a0
        call    big_endian_32
        slli    s1, a0, 32
        addi    a0, s0, 4
        call    big_endian_32
        or      a0, a0, s1
        ld      s1, 8(sp)
        ld      s0, 16(sp)
        ld      ra, 24(sp)
        addi    sp, sp, 32
        ret

# ---- strings -------------------------------------------------------------------------------------------------------

# Whether the strings a0 and a1 are the same.
same_string:
        lbu     t0, 0(a0)
        lbu     t1, 0(a1)
        bne     t0, t1, string_no
        addi    a0, a0, 1
        addi    a1, a1, 1
        bnez    t0, same_string
        li      a0, 1
        ret
string_no:
        li      a0, 0
        ret

# Whether the string a0 starts with the string a1.
starts_with:
        lbu     t1, 0(a1)
        beqz    t1, string_yes
        lbu     t0, 0(a0)
        bne     t0, t1, string_no
        addi    a0, a0, 1
        addi    a1, a1, 1
        j       starts_with
string_yes:
        li      a0, 1
        ret

# Whether the first word of the string a0 is the string a1.
match_word:
        lbu     t1, 0(a1)
        lbu     t0, 0(a0)
        beqz    t1, match_end
        bne     t0, t1, string_no
        addi    a0, a0, 1
        addi    a1, a1, 1
        j       match_word
match_end:
        beqz    t0, string_yes
        li      t1, 32
        beq     t0, t1, string_yes
        j       string_no

# The place of the first character from a0 on that is no space.
skip_spaces:
        lbu     t0, 0(a0)
        li      t1, 32
        bne     t0, t1, skip_done
        addi    a0, a0, 1
        j       skip_spaces
# The place of the first space from a0 on, or of the end.
skip_word:
        lbu     t0, 0(a0)
        beqz    t0, skip_done
        li      t1, 32
        beq     t0, t1, skip_done
        addi    a0, a0, 1
        j       skip_word
skip_done:
        ret

# Reads a hexadecimal number, with or without 0x, past spaces from a0 on. Returns the place behind it in a0, how many
# digits it has in a1 (zero if there is no number), and the number in a2.
parse_hex:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        call    skip_spaces
        lbu     t0, 0(a0)
        li      t1, 48
        bne     t0, t1, parse_start
        lbu     t0, 1(a0)
        li      t1, 120
        bne     t0, t1, parse_start
        addi    a0, a0, 2
parse_start:
        li      a1, 0
        li      a2, 0
parse_digit:
        lbu     t0, 0(a0)
        addi    t0, t0, -48
        li      t1, 10
        bltu    t0, t1, parse_add
        # Letters of either case: 'a' is 49 from '0'.
        ori     t0, t0, 32
        addi    t0, t0, -49
        li      t1, 6
        bgeu    t0, t1, parse_end
        addi    t0, t0, 10
parse_add:
        slli    a2, a2, 4
        or      a2, a2, t0
        addi    a0, a0, 1
        addi    a1, a1, 1
        j       parse_digit
parse_end:
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# ---- console -------------------------------------------------------------------------------------------------------

# Writes the byte a0 (DBCN, console write byte).
put:
        li      a6, 2
        li      a7, 0x4442434e
        ecall
        ret

print_newline:
        la      a0, text_newline
# Writes the string a0 (DBCN, console write), in as many calls as it takes.
print:
        mv      t0, a0
        mv      t1, a0
print_length:
        lbu     t2, 0(t1)
        beqz    t2, print_rest
        addi    t1, t1, 1
        j       print_length
print_rest:
        sub     a0, t1, t0
        beqz    a0, print_done
        mv      a1, t0
        li      a2, 0
        li      a6, 0
        li      a7, 0x4442434e
        ecall
        bnez    a0, print_done
        add     t0, t0, a1
        j       print_rest
print_done:
        ret

# Writes a0 in hexadecimal: "0x" and as many digits as it needs.
print_hex:
        li      t0, 0
        mv      t1, a0
hex_digits:
        addi    t0, t0, 4
        srli    t1, t1, 4
        bnez    t1, hex_digits
        j       print_digits
print_hex_16:
        li      t0, 64
print_digits:
        addi    sp, sp, -32
        sd      ra, 24(sp)
        sd      s0, 16(sp)
        sd      s1, 8(sp)
        mv      s0, a0
        mv      s1, t0
        la      a0, text_0x
        call    print
hex_digit:
        addi    s1, s1, -4
        srl     a0, s0, s1
        andi    a0, a0, 15
        call    print_nibble
        bnez    s1, hex_digit
        ld      s1, 8(sp)
        ld      s0, 16(sp)
        ld      ra, 24(sp)
        addi    sp, sp, 32
        ret

# Writes the byte a0 as two digits.
print_byte:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        sd      s0, 0(sp)
        mv      s0, a0
        srli    a0, a0, 4
        call    print_nibble
        andi    a0, s0, 15
        call    print_nibble
        ld      s0, 0(sp)
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

print_nibble:
        la      t0, digits
        add     t0, t0, a0
        lbu     a0, 0(t0)
        j       put

# Writes a0 in decimal.
print_decimal:
        addi    sp, sp, -48
        sd      ra, 40(sp)
        addi    t0, sp, 32
        sb      zero, 0(t0)
        li      t1, 10
decimal_digit:
        remu    t2, a0, t1
        divu    a0, a0, t1
        addi    t2, t2, 48
        addi    t0, t0, -1
        sb      t2, 0(t0)
        bnez    a0, decimal_digit
        mv      a0, t0
        call    print
        ld      ra, 40(sp)
        addi    sp, sp, 48
        ret

# Reads a byte (DBCN, console read). While there is none the hart sleeps, ten milliseconds at a time: a console need not
# interrupt.
get:
        addi    sp, sp, -16
        sd      ra, 8(sp)
        li      t0, 32
        csrs    sie, t0
get_try:
        li      a0, 1
        la      a1, byte
        li      a2, 0
        li      a6, 1
        li      a7, 0x4442434e
        ecall
        bnez    a0, get_wait
        bnez    a1, get_done
get_wait:
        csrr    a0, time
        li      t0, 100000
        add     a0, a0, t0
        li      a6, 0
        li      a7, 0x54494d45
        ecall
        wfi
        j       get_try
get_done:
        # No deadline: nothing stays pending.
        li      a0, -1
        li      a6, 0
        li      a7, 0x54494d45
        ecall
        la      t0, byte
        lbu     a0, 0(t0)
        ld      ra, 8(sp)
        addi    sp, sp, 16
        ret

# Reads a line into the buffer `line`, echoed, with backspace.
read_line:
        addi    sp, sp, -32
        sd      ra, 24(sp)
        sd      s0, 16(sp)
        sd      s1, 8(sp)
        la      s0, line
        mv      s1, s0
line_byte:
        call    get
        li      t0, 13
        beq     a0, t0, line_end
        li      t0, 10
        beq     a0, t0, line_end
        li      t0, 127
        beq     a0, t0, line_back
        li      t0, 8
        beq     a0, t0, line_back
        li      t0, 32
        bltu    a0, t0, line_byte
        # 126 characters and the zero behind them.
        addi    t0, s0, 126
        bgeu    s1, t0, line_byte
        sb      a0, 0(s1)
        addi    s1, s1, 1
        call    put
        j       line_byte
line_back:
        beq     s1, s0, line_byte
        addi    s1, s1, -1
        la      a0, text_erase
        call    print
        j       line_byte
line_end:
        sb      zero, 0(s1)
        call    print_newline
        ld      s1, 8(sp)
        ld      s0, 16(sp)
        ld      ra, 24(sp)
        addi    sp, sp, 32
        ret

# ---- text ----------------------------------------------------------------------------------------------------------

text_banner:
        .asciz  "\r\nVervet monitor: there is no operating system to run.\r\n"
text_hint:
        .asciz  "\r\nType help for the commands.\r\n"
text_prompt:
        .asciz  "> "
text_help:
        .ascii  "info                    the machine\r\n"
        .ascii  "memory ADDRESS [BYTES]  memory, both numbers hexadecimal\r\n"
        .ascii  "csr                     control and status registers\r\n"
        .ascii  "devices                 the device tree\r\n"
        .ascii  "benchmark               instructions per second\r\n"
        .ascii  "poweroff                end\r\n"
        .asciz  "reboot                  start again\r\n"
text_unknown:
        .asciz  "unknown command: "
text_unknown_end:
        .asciz  "; help lists the commands\r\n"
text_refused:
        .asciz  "the machine refuses\r\n"
text_trap:
        .asciz  "\r\ntrap: scause "
text_trap_value:
        .asciz  ", stval "
text_trap_pc:
        .asciz  ", sepc "
text_memory_usage:
        .asciz  "memory ADDRESS [BYTES], for example: memory 80200000 100\r\n"
text_model:
        .asciz  "machine       "
text_isa:
        .asciz  "\r\nisa           "
text_mmu:
        .asciz  "\r\nmmu           "
text_harts:
        .asciz  "\r\nharts         "
text_this_hart:
        .asciz  ", this one is "
text_memory:
        .asciz  "\r\nmemory        "
text_size:
        .asciz  ", "
text_mebibytes:
        .asciz  " MiB"
text_console:
        .asciz  "\r\nconsole       "
text_arguments:
        .asciz  "\r\narguments     "
text_tree:
        .asciz  "\r\ndevice tree   "
text_sbi:
        .asciz  "\r\nSBI           "
text_implementation:
        .asciz  ", implementation "
text_integer:
        .asciz  "arithmetic    "
text_walk:
        .asciz  "memory        "
text_calls:
        .asciz  "calls         "
text_instructions:
        .asciz  " instructions in "
text_microseconds:
        .asciz  " us: "
text_per_second:
        .asciz  " million per second\r\n"
text_newline:
        .asciz  "\r\n"
text_erase:
        .asciz  "\b \b"
text_dash:
        .asciz  "-"
text_dot:
        .asciz  "."
text_slash:
        .asciz  "/"
text_colon:
        .asciz  ": "
text_space:
        .asciz  " "
text_indent:
        .asciz  "  "
text_column:
        .asciz  "  - "
text_0x:
        .asciz  "0x"
digits:
        .asciz  "0123456789abcdef"
name_help:
        .asciz  "help"
name_info:
        .asciz  "info"
name_memory:
        .asciz  "memory"
name_csr:
        .asciz  "csr"
name_devices:
        .asciz  "devices"
name_benchmark:
        .asciz  "benchmark"
name_poweroff:
        .asciz  "poweroff"
name_reboot:
        .asciz  "reboot"
node_root:
        .asciz  ""
node_cpu:
        .asciz  "cpu@"
node_cpus:
        .asciz  "cpus"
node_memory:
        .asciz  "memory@"
node_chosen:
        .asciz  "chosen"
property_model:
        .asciz  "model"
property_isa:
        .asciz  "riscv,isa"
property_mmu:
        .asciz  "mmu-type"
property_reg:
        .asciz  "reg"
property_stdout:
        .asciz  "stdout-path"
property_bootargs:
        .asciz  "bootargs"
property_timebase:
        .asciz  "timebase-frequency"
property_compatible:
        .asciz  "compatible"
csr_sstatus:
        .asciz  "sstatus       "
csr_sie:
        .asciz  "sie           "
csr_sip:
        .asciz  "sip           "
csr_stvec:
        .asciz  "stvec         "
csr_scounteren:
        .asciz  "scounteren    "
csr_senvcfg:
        .asciz  "senvcfg       "
csr_sscratch:
        .asciz  "sscratch      "
csr_sepc:
        .asciz  "sepc          "
csr_scause:
        .asciz  "scause        "
csr_stval:
        .asciz  "stval         "
csr_satp:
        .asciz  "satp          "
csr_cycle:
        .asciz  "cycle         "
csr_time:
        .asciz  "time          "
csr_instret:
        .asciz  "instret       "

# Not in the program: memory behind it, which is zero at the start.
        .balign 16
end:
        .equ    byte, end
        .equ    line, end + 16
        .equ    scratch, end + 144
        .equ    stack_top, end + 144 + 65536 + 16384
