//! A small registry on a real socket: the pull half of the OCI Distribution Specification, with
//! faults as registries and networks have them.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use limpet_oci::{Digest, ImageLayout};

/// What goes wrong, and who may come in.
#[derive(Default)]
pub(super) struct Rules {
    /// Cut blobs larger than 1000 bytes after so many bytes, this often.
    pub(super) cuts: Vec<usize>,
    /// Serve whole blobs whatever the range asked for.
    pub(super) no_ranges: bool,
    /// Change a byte of this blob.
    pub(super) spoil: Option<Digest>,
    /// `user:password` in base64, by HTTP Basic.
    pub(super) basic: Option<&'static str>,
    /// Demand a token, and give it to everybody.
    pub(super) bearer: bool,
    /// Answer 503 so often.
    pub(super) unavailable: u32,
    /// Answer manifests and tokens with this status and a body without end.
    pub(super) endless: Option<&'static str>,
}

/// A registry that serves a layout until it is dropped.
pub(super) struct TestRegistry {
    pub(super) address: String,
    pub(super) layout: Arc<ImageLayout>,
    pub(super) rules: Arc<Mutex<Rules>>,
    /// Every request line with its range.
    pub(super) log: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl TestRegistry {
    pub(super) fn start(archives: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Arc::new(ImageLayout::open(folder.path()).unwrap());
        for archive in archives {
            layout.load(archive.as_slice()).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (rules, log) = (Arc::new(Mutex::new(Rules::default())), Arc::default());
        let it = Self { address, layout, rules, log, _folder: folder };
        let (layout, rules) = (Arc::clone(&it.layout), Arc::clone(&it.rules));
        let (log, address) = (Arc::clone(&it.log), it.address.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // The test is over when it has dropped its side.
                if Arc::strong_count(&rules) == 1 {
                    return;
                }
                let (layout, rules, log) = (layout.clone(), rules.clone(), log.clone());
                let address = address.clone();
                std::thread::spawn(move || {
                    let session = Session { layout, rules, log, address };
                    session.serve(connection).ok();
                });
            }
        });
        it
    }

    pub(super) fn requests(&self, part: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        // Replaced, the last count but the thread's is gone; a connection wakes it.
        self.rules = Arc::default();
        drop(TcpStream::connect(&self.address));
    }
}

struct Session {
    layout: Arc<ImageLayout>,
    rules: Arc<Mutex<Rules>>,
    log: Arc<Mutex<Vec<String>>>,
    address: String,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Answer {
    fn new(status: &'static str, headers: &str, body: &[u8]) -> Self {
        Self { status, headers: headers.to_owned(), body: body.to_vec(), cut: None }
    }
}

impl Session {
    fn serve(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let (mut request, mut range, mut auth) = (String::new(), None, String::new());
        reader.read_line(&mut request)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("range: bytes=") {
                range = value.trim().trim_end_matches('-').parse::<u64>().ok();
            } else if lower.starts_with("authorization: ") {
                auth = line["authorization: ".len()..].trim().to_owned();
            } else if line.trim().is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        self.log.lock().unwrap().push(format!("{path} from {}", range.unwrap_or(0)));
        let endless = self.rules.lock().unwrap().endless;
        if let Some(status) = endless.filter(|_| !path.contains("/blobs/")) {
            return self.flood(&mut connection, status);
        }
        let answer = self.answer(&path, range, &auth);
        write!(
            connection,
            "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
            answer.status,
            answer.body.len(),
            answer.headers
        )?;
        let end = answer.cut.unwrap_or(answer.body.len()).min(answer.body.len());
        connection.write_all(&answer.body[..end])?;
        // What is cut ends in an orderly way, too early.
        connection.shutdown(std::net::Shutdown::Write)?;
        reader.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// Sends until the other side has had enough, which it must before 256 MiB.
    fn flood(&self, connection: &mut TcpStream, status: &str) -> std::io::Result<()> {
        let realm = format!("Bearer realm=\"http://{}/token\"", self.address);
        write!(
            connection,
            "HTTP/1.1 {status}\r\nconnection: close\r\nwww-authenticate: {realm}\r\n\r\n"
        )?;
        for _ in 0..4096 {
            connection.write_all(&[b' '; 65536])?;
        }
        self.log.lock().unwrap().push("all of the flood".to_owned());
        Ok(())
    }

    fn answer(&self, path: &str, range: Option<u64>, auth: &str) -> Answer {
        let mut rules = self.rules.lock().unwrap();
        if rules.unavailable > 0 {
            rules.unavailable -= 1;
            return Answer::new("503 Service Unavailable", "", b"later");
        }
        if path.starts_with("/token") {
            return Answer::new("200 OK", "", br#"{"token":"open-sesame"}"#);
        }
        let challenge = if rules.bearer && auth != "Bearer open-sesame" {
            format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.address)
        } else if rules.basic.is_some_and(|secret| auth != format!("Basic {secret}")) {
            "Basic realm=\"test\"".to_owned()
        } else {
            return self.resource(path, range, &mut rules);
        };
        let header = format!("www-authenticate: {challenge}\r\n");
        Answer::new("401 Unauthorized", &header, b"{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}")
    }

    fn resource(&self, path: &str, range: Option<u64>, rules: &mut Rules) -> Answer {
        let absent = |code: &str| {
            let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"no\"}}]}}");
            Answer::new("404 Not Found", "", body.as_bytes())
        };
        if path == "/v2/" {
            return Answer::new("200 OK", "", b"{}");
        }
        let path = path.split('?').next().unwrap();
        if let Some((name, reference)) = path.split_once("/manifests/") {
            let name = name.trim_start_matches("/v2/");
            let found = if reference.starts_with("sha256:") {
                self.layout.manifest(reference)
            } else {
                self.layout.manifest(&format!("{name}:{reference}"))
            };
            return match found.unwrap() {
                Some((kind, bytes)) => {
                    Answer::new("200 OK", &format!("content-type: {kind}\r\n"), &bytes)
                }
                None => absent("MANIFEST_UNKNOWN"),
            };
        }
        let digest = path.rsplit('/').next().unwrap().parse::<Digest>();
        let Some(digest) = digest.ok() else { return absent("NAME_UNKNOWN") };
        match self.layout.blob(&digest).unwrap() {
            Some((mut file, size)) => {
                let range = range.filter(|_| !rules.no_ranges);
                file.seek(std::io::SeekFrom::Start(range.unwrap_or(0))).unwrap();
                let mut body = Vec::new();
                file.read_to_end(&mut body).unwrap();
                if rules.spoil == Some(digest) {
                    body[0] ^= 1;
                }
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                let mut answer = Answer::new(status, "", &body);
                if size > 1000 && !rules.cuts.is_empty() {
                    answer.cut = Some(rules.cuts.remove(0));
                }
                answer
            }
            None => absent("BLOB_UNKNOWN"),
        }
    }
}
