//! `GET` over HTTP/1.1, as much of it as a probe needs.
//!
//! In: a connection to whatever listens in a container. Out: the status of its answer (RFC 9112, 4).
//! Nothing that it says is believed to have an end.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest status line that is read.
const MAX_LINE_BYTES: usize = 1024;
/// Of the rest so much is taken, so that an ordinary server can end its answer in peace.
const MAX_REST_BYTES: usize = 64 * 1024;
/// How long that may take.
const REST: Duration = Duration::from_millis(50);

/// The status of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u16,
    /// Code and reason, for people.
    pub(super) line: String,
}

/// Asks for a path.
pub(super) async fn get(
    mut stream: TcpStream,
    port: u16,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> io::Result<Status> {
    let request = request(port, path, headers);
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    let end = loop {
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&chunk[..read]);
        if line.len() > MAX_LINE_BYTES && !line.contains(&b'\n') {
            return Err(io::Error::other("the answer is not HTTP"));
        }
    };
    let status = status(&line[..end]).ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    // Whether it ends, and how, does not matter.
    drop(tokio::time::timeout(REST, take_rest(&mut stream)).await);
    Ok(status)
}

async fn take_rest(stream: &mut TcpStream) {
    let mut chunk = [0; 4096];
    let mut taken = 0;
    while taken < MAX_REST_BYTES {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => taken += read,
        }
    }
}

/// A header of the service replaces one of ours. One that would break the request is left out: the
/// Compose file is refused for it, so nobody has written it.
pub(super) fn request(port: u16, path: &str, headers: &BTreeMap<String, String>) -> String {
    let breaks = |text: &str| text.bytes().any(|byte| byte.is_ascii_control());
    let own = [
        ("Host".to_owned(), format!("localhost:{port}")),
        ("User-Agent".to_owned(), format!("limpet/{}", env!("CARGO_PKG_VERSION"))),
        ("Accept".to_owned(), "*/*".to_owned()),
        ("Connection".to_owned(), "close".to_owned()),
    ];
    let given = |name: &str| headers.keys().any(|other| other.eq_ignore_ascii_case(name));
    let path: String = path.chars().filter(|c| !c.is_control() && *c != ' ').collect();
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    let own = own.iter().filter(|(name, _)| !given(name)).map(|(name, value)| (name, value));
    for (name, value) in own.chain(headers).filter(|(name, value)| !breaks(name) && !breaks(value))
    {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request
}

/// `HTTP/1.1 200 OK`; the reason may be missing.
pub(super) fn status(line: &[u8]) -> Option<Status> {
    let line = String::from_utf8_lossy(line);
    let (version, rest) = line.trim_end().split_once(' ')?;
    let digits = version.strip_prefix("HTTP/1.")?;
    if digits.len() != 1 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let code = rest.split(' ').next()?;
    let code = (code.len() == 3).then(|| code.parse().ok()).flatten()?;
    let line: String = rest.chars().filter(|c| !c.is_control()).collect();
    Some(Status { code, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_nothing_else_is_taken_for_one() {
        let read = |line: &str| status(line.as_bytes()).map(|status| (status.code, status.line));
        assert_eq!(read("HTTP/1.1 200 OK\r"), Some((200, "200 OK".to_owned())));
        assert_eq!(read("HTTP/1.0 503"), Some((503, "503".to_owned())));
        for none in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000",
            "SSH-2.0-x",
            "HTTP/2 200",
        ] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }

    #[test]
    fn headers_replace_ours_and_break_nothing() {
        let headers = [("host", "shop"), ("X-Token", "a b"), ("X-Bad", "a\r\nEvil: 1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let request = request(80, "/health?a=b", &headers);
        let lines: Vec<&str> = request.split("\r\n").collect();
        assert_eq!(lines[0], "GET /health?a=b HTTP/1.1");
        assert!(lines.contains(&"host: shop") && lines.contains(&"X-Token: a b"), "{lines:?}");
        assert!(!request.contains("localhost") && !request.contains("Evil"), "{lines:?}");
        assert!(request.ends_with("Connection: close\r\nX-Token: a b\r\nhost: shop\r\n\r\n"));
    }
}
