//! The body of an answer to `GET` over HTTP/1.1.
//!
//! In: a connection to whatever listens in a container. Out: what it answers with status 200 (RFC 9112, 6), at
//! most so many bytes. Nothing that it says is believed to have an end.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::http::{request, status};
use crate::scale::prometheus::MAX_BYTES;

/// Room for the head of the answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Asks for a path.
pub(super) async fn get(mut stream: TcpStream, port: u16, path: &str) -> io::Result<String> {
    let request = request(port, path, &BTreeMap::new());
    stream.write_all(request.as_bytes()).await?;
    let most = u64::try_from(MAX_BYTES + MAX_HEAD_BYTES).unwrap_or(u64::MAX);
    let mut answer = Vec::new();
    stream.take(most).read_to_end(&mut answer).await?;
    body(&answer)
}

fn body(answer: &[u8]) -> io::Result<String> {
    let wrong = |what: &str| io::Error::other(what.to_owned());
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| wrong("the answer is not HTTP"))?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| status(line.as_bytes()));
    let status = status.ok_or_else(|| wrong("the answer is not HTTP"))?;
    if status.code != 200 {
        return Err(wrong(&status.line));
    }
    let is_chunked = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding")
            && value.to_ascii_lowercase().contains("chunked")
    });
    let bytes = if is_chunked {
        chunks(body).ok_or_else(|| wrong("its chunks do not fit together"))?
    } else {
        body.to_vec()
    };
    String::from_utf8(bytes).map_err(|_| wrong("the answer is no text"))
}

/// RFC 9112, 7.1: sizes in hexadecimal digits, each followed by so many bytes; 0 is the end.
fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let begin = end + 2;
        whole.extend_from_slice(rest.get(begin..begin.checked_add(size)?)?);
        rest = rest.get(begin + size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_taken_out_of_answers() {
        let read = |answer: &str| body(answer.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\nx 1\n").as_deref(), Ok("x 1\n"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nx 1\r\nA;e=f\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(read(chunked).as_deref(), Ok("x 10123456789"));
        assert_eq!(read("HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err(), "404 Not Found");
        for wrong in
            ["", "x 1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
