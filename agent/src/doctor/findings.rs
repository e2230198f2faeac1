//! What is wrong with a machine, by what is known of it. Deciding code: it reads nothing itself.

/// What is known of a machine. What could not be found out is `None`, and no finding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether the agent has the rights that containers need.
    pub is_root: bool,
    /// What the keeper would say of cgroups and system call filters.
    pub lacks: Vec<String>,
    /// What the kernel's command line says.
    pub command_line: String,
    /// File systems that the kernel knows now (`/proc/filesystems`).
    pub file_systems: String,
    /// Whether a clock runs while the machine is off.
    pub has_clock: bool,
    /// Whether the time is later than when this agent was made.
    pub time_is_likely: bool,
    /// Whether the folder of the agent's state can be written.
    pub state_is_writable: Option<bool>,
    /// The card's own estimate of how much of its life is over: two numbers, in tenths and one more
    /// (JEDEC 84-B51, `DEVICE_LIFE_TIME_EST`).
    pub card_life: Option<String>,
    /// Whether the supply's voltage has been too low since the start.
    pub undervoltage: Option<bool>,
    /// What the agent was built for, as Rust has it, and what the kernel says of itself (`uname -m`).
    pub built_for: &'static str,
    /// The kernel's.
    pub machine: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: String,
    /// What that costs.
    pub costs: String,
    /// How to mend it.
    pub mend: String,
}

impl Finding {
    fn new(what: &str, costs: &str, mend: &str) -> Self {
        let [what, costs, mend] = [what, costs, mend].map(str::to_owned);
        Self { what, costs, mend }
    }

    pub(super) fn of_configuration(error: &str) -> Self {
        Self::new(error, "the agent does not start", "correct the file that --config names")
    }

    /// A sentence of the keeper's, `WHAT: COSTS; MEND`, as three.
    fn of_lack(sentence: &str) -> Self {
        let (what, rest) = sentence.split_once(": ").unwrap_or((sentence, "see docs/boards.md"));
        let (costs, mend) =
            rest.split_once("; ").unwrap_or((rest, "use a kernel or build that has it"));
        Self::new(what, costs, mend)
    }
}

/// From this tenth on a card is at its end.
const WORN_TENTH: u8 = 9;

/// What is wrong, the worst first.
pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    if !machine.is_root {
        found.push(Finding::new(
            "this is not root",
            "the agent does not start, and some of what follows cannot be known",
            "run it with sudo or as a service",
        ));
    }
    found.extend(machine.lacks.iter().map(|lack| Finding::of_lack(lack)));
    if machine.command_line.split_whitespace().any(|word| word == "cgroup_disable=memory") {
        found.push(Finding::new(
            "the kernel's command line says cgroup_disable=memory",
            "services with a memory limit do not start",
            "replace it with cgroup_enable=memory in cmdline.txt and reboot",
        ));
    }
    if !machine.file_systems.split_whitespace().any(|word| word == "overlay") {
        found.push(Finding::new(
            "the kernel does not know overlayfs",
            "containers do not start",
            "modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS",
        ));
    }
    if machine.state_is_writable == Some(false) {
        found.push(Finding::new(
            "the folder of the agent's state cannot be written",
            "nothing is kept: after a restart without a controller nothing runs",
            "mount it writable; if the kernel made it read-only after errors, replace the card",
        ));
    }
    found.extend(of_hardware(machine));
    found
}

fn of_hardware(machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    if !machine.time_is_likely {
        found.push(Finding::new(
            "the clock is behind",
            "certificates of registries seem not yet valid, and schedules wait",
            "set the time, or let a time service do it",
        ));
    }
    if !machine.has_clock {
        found.push(Finding::new(
            "no clock runs while the power is off",
            "after a start without a network the time is that of the last change",
            "add a real-time clock, or live with it: what runs does not need the time",
        ));
    }
    if let Some(tenth) = machine.card_life.as_deref().and_then(worst_tenth)
        && tenth >= WORN_TENTH
    {
        found.push(Finding::new(
            &format!("the card says that {}0 % of its life are over", tenth - 1),
            "it may lose data or become read-only at any time",
            "replace it; the controller gives the new node the same work",
        ));
    }
    if machine.undervoltage == Some(true) {
        found.push(Finding::new(
            "the supply's voltage was too low",
            "the processor is slowed down, and cards lose data",
            "use a stronger supply and a shorter cable",
        ));
    }
    if machine.built_for == "arm" && machine.machine == "aarch64" {
        found.push(Finding::new(
            "a 32-bit agent runs on a 64-bit kernel",
            "images for arm64 are not used; those for 32-bit ARM run",
            "install the agent for arm64 (aarch64-unknown-linux-musl)",
        ));
    }
    found
}

/// The worse of the two estimates.
fn worst_tenth(life: &str) -> Option<u8> {
    let number = |word: &str| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    life.split_whitespace().filter_map(number).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine {
            is_root: true,
            file_systems: "nodev\toverlay\n\text4\n".to_owned(),
            has_clock: true,
            time_is_likely: true,
            state_is_writable: Some(true),
            built_for: "aarch64",
            machine: "aarch64".to_owned(),
            ..Machine::default()
        }
    }

    fn whats(machine: &Machine) -> Vec<String> {
        findings(machine).into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn a_good_machine_has_no_findings() {
        assert_eq!(findings(&good()), []);
        let unknown = Machine { state_is_writable: None, card_life: None, ..good() };
        assert_eq!(findings(&unknown), [], "what is not known is no finding");
    }

    #[test]
    fn each_thing_is_found() {
        let cases = [
            (Machine { is_root: false, ..good() }, "not root"),
            (
                Machine { command_line: "quiet cgroup_disable=memory".to_owned(), ..good() },
                "cgroup_disable",
            ),
            (Machine { file_systems: String::new(), ..good() }, "overlayfs"),
            (Machine { has_clock: false, ..good() }, "no clock"),
            (Machine { time_is_likely: false, ..good() }, "clock is behind"),
            (Machine { state_is_writable: Some(false), ..good() }, "cannot be written"),
            (Machine { card_life: Some("0x02 0x0a".to_owned()), ..good() }, "90 % of its life"),
            (Machine { undervoltage: Some(true), ..good() }, "voltage"),
            (Machine { built_for: "arm", ..good() }, "32-bit agent"),
        ];
        for (machine, what) in cases {
            let found = whats(&machine);
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
        }
        let fresh = Machine { card_life: Some("0x01 0x02".to_owned()), ..good() };
        assert_eq!(whats(&fresh), [""; 0]);
    }

    #[test]
    fn what_the_keeper_lacks_is_taken_apart() {
        let lacks = vec!["no memory cgroup: services with a limit do not start; add it".to_owned()];
        let found = findings(&Machine { lacks, ..good() });
        let wanted =
            Finding::new("no memory cgroup", "services with a limit do not start", "add it");
        assert_eq!(found, [wanted]);
    }
}
