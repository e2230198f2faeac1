//! The workload that the demo, the tests and the benchmarks run: one small static program.
//!
//! In: a subcommand. Out: what it says on the tin. The standard library only: it is compiled by a
//! bare `rustc` call of the build script. As the first process of a container it gets no default
//! action for signals, so it sets its own for SIGTERM and SIGINT.
//!
//! The web server can be updated without a failed request: several share one address
//! (SO_REUSEPORT), and one that is told to end takes no more connections, answers those that it has
//! and ends with 0. What waits in its queue at that moment goes to another only where the kernel is
//! told so (`net.ipv4.tcp_migrate_req=1`).
#![allow(unsafe_code, reason = "signal handlers and clock_gettime need the C library")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

const HELP: &str = "usage: workload COMMAND
  web ADDR [FILE]
                answer HTTP: / says hello, /healthz says ok, /slow takes two seconds; write FILE
                when it listens
  clock         print a line a second
  once CODE     print a line, end with this code
  sleep N       end with 0 after N seconds
  stamp         print CLOCK_MONOTONIC in nanoseconds first of all, then wait
  burn [FILE]   use one CPU; with FILE as long as there is one
  eat MIB       take so much memory, then wait
  flood         print without end
  fork-bomb     start processes without end
  ignore-term   ignore SIGTERM and wait
  env | id      print the environment | user, group and capabilities
  ls PATH | cat PATH | write PATH
                list a folder | print a file | write a line to a file";

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;
const EXIT_TERM: i32 = 128 + SIGTERM;
const CLOCK_MONOTONIC: i32 = 1;

#[repr(C)]
struct Timespec {
    seconds: std::ffi::c_long,
    nanoseconds: std::ffi::c_long,
}

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(code: i32) -> !;
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    fn getuid() -> u32;
    fn getgid() -> u32;
    fn getpid() -> i32;
    fn fork() -> i32;
    fn pause() -> i32;
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn setsockopt(socket: i32, level: i32, name: i32, value: *const i32, length: u32) -> i32;
    fn bind(socket: i32, address: *const Ipv4Address, length: u32) -> i32;
    fn listen(socket: i32, backlog: i32) -> i32;
    fn shutdown(socket: i32, how: i32) -> i32;
}

/// `sockaddr_in` of ip(7), port and address in network byte order.
#[repr(C)]
struct Ipv4Address {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

/// Whether the web server was told to end, and the socket on which it listens.
static ENDING: AtomicBool = AtomicBool::new(false);
static LISTENER: AtomicI32 = AtomicI32::new(-1);
/// Connections that are being answered.
static ANSWERING: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal_to_web(_: i32) {
    const SHUT_RD: i32 = 0;
    ENDING.store(true, Ordering::SeqCst);
    // SAFETY: shutdown is safe to call in a signal handler (signal-safety(7)); it ends the accept.
    unsafe { shutdown(LISTENER.load(Ordering::SeqCst), SHUT_RD) };
}

extern "C" fn on_signal(_: i32) {
    // SAFETY: _exit is safe to call in a signal handler.
    unsafe { _exit(EXIT_TERM) }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let operand = arguments.next();
    let file = arguments.next();
    if command == "stamp" {
        println!("{}", monotonic_ns());
    }
    let handler = if command == "ignore-term" { SIG_IGN } else { on_signal as *const () as usize };
    // SAFETY: the handler is a function that only calls _exit, or SIG_IGN.
    unsafe {
        signal(SIGTERM, handler);
        signal(SIGINT, on_signal as *const () as usize);
    }
    let result = match command.as_str() {
        "web" => web(operand.as_deref().unwrap_or("0.0.0.0:8080"), file.as_deref()),
        _ => run(&command, operand.as_deref()),
    };
    if let Err(error) = result {
        eprintln!("{command}: {error}");
        std::process::exit(1);
    }
}

fn run(command: &str, operand: Option<&str>) -> std::io::Result<()> {
    let number = || operand.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let path = || operand.unwrap_or("/");
    match command {
        "clock" => clock(),
        "once" => {
            println!("once: done");
            std::process::exit(number().try_into().unwrap_or(1))
        }
        "sleep" => {
            std::thread::sleep(Duration::from_secs(number()));
            Ok(())
        }
        "stamp" | "ignore-term" => wait(),
        "burn" => burn(operand),
        "eat" => eat(number()),
        "flood" => flood(),
        "fork-bomb" => fork_bomb(),
        "env" => {
            for (name, value) in std::env::vars_os() {
                println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
            }
            Ok(())
        }
        "id" => id(),
        "ls" => list(path()),
        "cat" => {
            let mut file = std::fs::File::open(path())?;
            std::io::copy(&mut file, &mut std::io::stdout()).map(drop)
        }
        "write" => std::fs::write(path(), format!("written by process {}\n", std::process::id())),
        _ => {
            eprintln!("{HELP}");
            std::process::exit(2)
        }
    }
}

fn monotonic_ns() -> i64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the pointer is to a timespec of this platform's layout that lives during the call.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
    i64::from(time.seconds) * 1_000_000_000 + i64::from(time.nanoseconds)
}

fn wait() -> ! {
    loop {
        // SAFETY: pause has no preconditions.
        unsafe { pause() };
    }
}

fn instance() -> String {
    let from_env = std::env::var("LIMPET_INSTANCE");
    let name = from_env.or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"));
    name.map(|name| name.trim().to_owned()).unwrap_or_else(|_| "nobody".to_owned())
}

fn clock() -> std::io::Result<()> {
    let start = monotonic_ns();
    for tick in 0_u64.. {
        println!("{} tick {tick}", instance());
        let next = start + (tick as i64 + 1) * 1_000_000_000;
        let left = u64::try_from(next - monotonic_ns()).unwrap_or(0);
        std::thread::sleep(Duration::from_nanos(left));
    }
    Ok(())
}

fn web(address: &str, file: Option<&str>) -> std::io::Result<()> {
    const LONGEST_END: Duration = Duration::from_secs(5);
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let listener = listener(address)?;
    LISTENER.store(listener.as_raw_fd(), Ordering::SeqCst);
    // SAFETY: the handler is a function that only does what signal-safety(7) allows.
    unsafe { signal(SIGTERM, on_signal_to_web as *const () as usize) };
    println!("listening on {}", listener.local_addr()?);
    if let Some(file) = file {
        std::fs::write(file, "listening\n")?;
    }
    while !ENDING.load(Ordering::SeqCst) {
        let Ok((connection, _)) = listener.accept() else { continue };
        ANSWERING.fetch_add(1, Ordering::SeqCst);
        // One that cannot be served is closed; the others go on.
        let served = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            serve(connection).unwrap_or_default();
            ANSWERING.fetch_sub(1, Ordering::SeqCst);
        });
        if served.is_err() {
            ANSWERING.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let latest = std::time::Instant::now() + LONGEST_END;
    while ANSWERING.load(Ordering::SeqCst) > 0 && std::time::Instant::now() < latest {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// A listener that shares its address with others of the same user.
fn listener(address: &str) -> std::io::Result<TcpListener> {
    const AF_INET: u16 = 2;
    const SOCK_STREAM_CLOEXEC: i32 = 1 | 0o2_000_000;
    const SOL_SOCKET: i32 = 1;
    const SO_REUSEADDR: i32 = 2;
    const SO_REUSEPORT: i32 = 15;
    const BACKLOG: i32 = 1024;
    let Ok(SocketAddr::V4(v4)) = address.parse::<SocketAddr>() else {
        return TcpListener::bind(address);
    };
    let known = Ipv4Address {
        family: AF_INET,
        port: v4.port().to_be_bytes(),
        address: v4.ip().octets(),
        zero: [0; 8],
    };
    let checked = |result: i32| match result {
        -1 => Err(std::io::Error::last_os_error()),
        number => Ok(number),
    };
    // SAFETY: the calls get a socket of this function, and pointers to values of it with their sizes.
    unsafe {
        let number = checked(socket(i32::from(AF_INET), SOCK_STREAM_CLOEXEC, 0))?;
        let listener = TcpListener::from_raw_fd(number);
        for option in [SO_REUSEADDR, SO_REUSEPORT] {
            checked(setsockopt(number, SOL_SOCKET, option, &raw const ON, 4))?;
        }
        checked(bind(number, &raw const known, 16))?;
        checked(listen(number, BACKLOG))?;
        Ok(listener)
    }
}

static ON: i32 = 1;

fn serve(connection: TcpStream) -> std::io::Result<()> {
    const LONGEST_REQUEST: u64 = 16 * 1024;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(connection.try_clone()?.take(LONGEST_REQUEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match path.split('?').next().unwrap_or(path) {
        "/" => ("200 OK", format!("hello from {}\n", instance())),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/slow" => {
            std::thread::sleep(Duration::from_secs(2));
            ("200 OK", format!("slow hello from {}\n", instance()))
        }
        _ => ("404 Not Found", "there is nothing here\n".to_owned()),
    };
    let mut connection = connection;
    write!(
        connection,
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn burn(file: Option<&str>) -> std::io::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    /// Between two looks: a few milliseconds.
    const ROUNDS: u32 = 1_000_000;
    let mut value = 1_u64;
    loop {
        for _ in 0..ROUNDS {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            value = std::hint::black_box(value);
        }
        while file.is_some_and(|file| !std::path::Path::new(file).exists()) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn eat(mebibytes: u64) -> std::io::Result<()> {
    const MEBIBYTE: usize = 1024 * 1024;
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for number in 1..=mebibytes {
        // Every page is written, so that it is really there.
        eaten.push(vec![1; MEBIBYTE]);
        if number % 16 == 0 || number == mebibytes {
            println!("ate {number} MiB");
        }
    }
    std::hint::black_box(&eaten);
    wait()
}

fn flood() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in 0_u64.. {
        writeln!(out, "flood line {line} ........................................................")?;
    }
    Ok(())
}

fn fork_bomb() -> std::io::Result<()> {
    let mut first = true;
    let mut refused = false;
    loop {
        // SAFETY: this program has one thread here, and the child does the same as its parent.
        match unsafe { fork() } {
            -1 if first && !refused => {
                println!("fork: {}", std::io::Error::last_os_error());
                refused = true;
            }
            -1 => std::thread::sleep(Duration::from_millis(10)),
            0 => first = false,
            _ => {}
        }
    }
}

fn id() -> std::io::Result<()> {
    // SAFETY: these calls have no preconditions.
    let (user, group, process) = unsafe { (getuid(), getgid(), getpid()) };
    println!("uid={user} gid={group} pid={process}");
    let status = std::fs::read_to_string("/proc/self/status")?;
    let shown = ["Groups:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"];
    for line in status.lines().filter(|line| shown.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
    Ok(())
}

fn list(path: &str) -> std::io::Result<()> {
    let mut names: Vec<String> = std::fs::read_dir(path)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}
