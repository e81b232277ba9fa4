//! System calls that a daemon of ours never makes, refused by seccomp with EPERM.
//!
//! A list of what is allowed would be tighter, and would break with every libc that takes another call for the same
//! purpose. What is refused here is each way to another program, another process, another kernel or another namespace.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::Wall;

pub(crate) fn restrict() -> Wall {
    match try_restrict() {
        Ok(()) => Wall::Whole,
        Err(error) => Wall::missing(&error),
    }
}

fn try_restrict() -> Result<(), seccompiler::Error> {
    // What its flags are is behind a pointer. libc falls back to `clone`, whose flags can be read.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply_filter(&program(unknown, libc::ENOSYS)?)?;
    apply_filter(&program(refused()?, libc::EPERM)?)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?.try_into()
}

fn refused() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER
        .iter()
        .chain(NEVER_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    // Threads yes, processes and namespaces no.
    let thread = libc::CLONE_THREAD.unsigned_abs().into();
    rules.insert(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![masked(0, thread, 0)?])?],
    );
    let family = |family: i32| {
        let family = family.unsigned_abs().into();
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    let families = FAMILIES
        .iter()
        .map(|each| family(*each))
        .collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(families)?]);
    // No page that can be written is ever run.
    let (write, run) = (libc::PROT_WRITE.unsigned_abs(), libc::PROT_EXEC.unsigned_abs());
    let both = u64::from(write | run);
    rules.insert(
        libc::SYS_mmap,
        vec![SeccompRule::new(vec![masked(2, both, both)?])?],
    );
    for protect in [libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(
            protect,
            vec![SeccompRule::new(vec![masked(2, run.into(), run.into())?])?],
        );
    }
    if cfg!(target_arch = "x86_64") {
        // The same calls by their x32 numbers, and those that have numbers of their own there (execve, ptrace, …).
        let again: Vec<_> = rules
            .iter()
            .map(|(call, rule)| (call | X32, rule.clone()))
            .collect();
        rules.extend(again);
        rules.extend(X32_OWN.map(|call| (call | X32, Vec::new())));
    }
    Ok(rules)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
}

/// Of sockets: the local API, the two internets, and rtnetlink with nftables.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

const NEVER: &[i64] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    // Other namespaces and roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    // The kernel itself, and the ways into it that have let in most.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    libc::SYS_personality,
    // Keys, users and the machine. Not adjtimex, which reads the clock's state too: setting it takes CAP_SYS_TIME, which
    // no daemon of ours keeps.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_mknod,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[i64] = &[];

/// The bit that says x32 in a call's number.
const X32: i64 = 0x4000_0000;
/// Calls whose x32 numbers are others.
const X32_OWN: std::ops::Range<i64> = 512..548;
