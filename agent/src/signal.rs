//! Names of signals, as images and people write them.
//!
//! In: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. Out: the number that Linux has for it on every
//! architecture that Limpet knows.

/// What ends a process that was not told anything else.
pub(crate) const SIGTERM: i32 = libc::SIGTERM;
/// What a process is told whose terminal is gone.
pub(crate) const SIGHUP: i32 = libc::SIGHUP;
/// What no process can ignore.
pub(crate) const SIGKILL: i32 = libc::SIGKILL;

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

const NAMES: [(&str, i32); 29] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
];

/// The number of a signal.
#[must_use]
pub(crate) fn number(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let real_time = || {
        let (base, sign, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => (RTMIN, '+', rest),
            (_, Some(rest)) => (RTMAX, '-', rest),
            _ => return None,
        };
        match offset.strip_prefix(sign) {
            None if offset.is_empty() => Some(base),
            None => None,
            Some(digits) if sign == '+' => Some(base.saturating_add(digits.parse().ok()?)),
            Some(digits) => Some(base.saturating_sub(digits.parse().ok()?)),
        }
    };
    let number = known.or_else(|| name.parse().ok()).or_else(real_time)?;
    (1..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_as_people_write_them() {
        for (name, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            (" 9 ", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX", Some(64)),
            ("RTMIN+99", None),
            ("0", None),
            ("SIGNAL", None),
            ("", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
