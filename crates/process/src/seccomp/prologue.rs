//! What stands before the library's program: calls that are newer than the library.
//!
//! A profile that denies by default answers `EPERM` to every call it does not name, and libseccomp cannot compile the
//! names of calls that came after it. C libraries try new calls first and fall back only on `ENOSYS`. So on the native
//! architecture, numbers above those that the library knows answer `ENOSYS`, except where the profile has an
//! unconditional rule for the name.

use libseccomp::ScmpSyscall;

/// Calls from this number on are in [`NAMES`]; from 424 on, numbers are the same on all architectures.
pub(super) const FIRST_KNOWN_NAME: u32 = 449;

/// Names from [`FIRST_KNOWN_NAME`] on (include/uapi/asm-generic/unistd.h).
const NAMES: [&str; 22] = [
    "futex_waitv",
    "set_mempolicy_home_node",
    "cachestat",
    "fchmodat2",
    "map_shadow_stack",
    "futex_wake",
    "futex_wait",
    "futex_requeue",
    "statmount",
    "listmount",
    "lsm_get_self_attr",
    "lsm_set_self_attr",
    "lsm_list_modules",
    "mseal",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
    "open_tree_attr",
    "file_getattr",
    "file_setattr",
    "listns",
];

/// x32 calls of x86-64 have this bit; they have an architecture of their own in the library's program.
const X32_BIT: u32 = 0x4000_0000;

/// Rules for calls that the library does not know.
#[derive(Debug, Default)]
pub(super) struct Newer(Vec<(u32, u32)>);

impl Newer {
    /// Adds an unconditional rule for `name`, if it is one of the newer calls. The first rule of a call counts.
    pub(super) fn add(&mut self, name: &str, action: u32) {
        let Some(index) = NAMES.iter().position(|known| *known == name) else { return };
        let number = FIRST_KNOWN_NAME + index as u32;
        if self.0.iter().all(|(taken, _)| *taken != number) {
            self.0.push((number, action));
        }
    }
}

/// The first number above all that the library knows.
fn first_unknown() -> u32 {
    let known = |number: &u32| ScmpSyscall::from(*number as i32).get_name().is_ok();
    (424..1024).filter(known).max().map_or(FIRST_KNOWN_NAME, |last| last + 1)
}

/// Puts the decision on newer calls before `program`.
pub(super) fn prepend(program: Vec<u8>, newer: &Newer) -> Vec<u8> {
    let first = first_unknown();
    let rules: Vec<_> = newer.0.iter().filter(|(number, _)| *number >= first).collect();
    // Length of what follows the range check: two instructions a rule, and the answer ENOSYS.
    let rest = 2 * rules.len() + 1;
    let Ok(skip) = u8::try_from(rest) else { return program };
    let mut code = vec![
        // Offset 4 of seccomp_data is the architecture, 0 the number.
        instruction(LOAD, 0, 0, 4),
        instruction(JUMP_EQUAL, 0, skip + 3, native_architecture()),
        instruction(LOAD, 0, 0, 0),
        instruction(JUMP_AT_LEAST, skip + 1, 0, X32_BIT),
        instruction(JUMP_AT_LEAST, 0, skip, first),
    ];
    for (number, action) in rules {
        code.push(instruction(JUMP_EQUAL, 0, 1, *number));
        code.push(instruction(RETURN, 0, 0, *action));
    }
    code.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    let mut bytes = code.concat();
    bytes.extend(program);
    bytes
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn instruction(code: u32, if_true: u8, if_false: u8, value: u32) -> [u8; 8] {
    let (code, value) = ((code as u16).to_ne_bytes(), value.to_ne_bytes());
    [code[0], code[1], if_true, if_false, value[0], value[1], value[2], value[3]]
}

/// `AUDIT_ARCH_*` of this machine (linux/audit.h).
const fn native_architecture() -> u32 {
    const SIXTY_FOUR: u32 = 0x8000_0000;
    const LITTLE: u32 = 0x4000_0000;
    if cfg!(target_arch = "x86_64") {
        62 | SIXTY_FOUR | LITTLE
    } else if cfg!(target_arch = "aarch64") {
        183 | SIXTY_FOUR | LITTLE
    } else if cfg!(target_arch = "riscv64") {
        243 | SIXTY_FOUR | LITTLE
    } else {
        // No call has this architecture, so the prologue decides nothing.
        0
    }
}
