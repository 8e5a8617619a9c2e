//! `cargo xtask serve`: serves the page on this machine.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use tiny_http::{Header, Method, Request, Response, ResponseBox, Server, StatusCode};
use xshell::Shell;

use crate::{site, wasm, workspace};

/// Arguments of `cargo xtask serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Also open the page in the browser
    #[arg(long)]
    open: bool,
    /// Send the headers of cross-origin isolation, which threads need
    #[arg(long)]
    isolated: bool,
}

/// Enough for a page that loads module, model and pictures in parallel.
const WORKERS: usize = 8;

/// `cargo xtask serve`: builds what is missing, then serves until interrupted.
///
/// # Errors
///
/// If the build fails or the port is taken.
pub fn run(sh: &Shell, args: &ServeArgs) -> Result<ExitCode> {
    // The port is opened first, so that an error shows before a minute of building.
    let listener = bind(args.port)?;
    let address = listener.local_addr().context("asking for the port")?;
    wasm::build(sh)?;
    let url = format!("http://{address}/");
    println!("serving {url} (Ctrl-C ends it)");
    if args.open {
        open_browser(&url);
    }
    serve(listener, workspace::root(), args.isolated)?;
    Ok(ExitCode::SUCCESS)
}

/// Listens on this machine only.
fn bind(port: u16) -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow!("port {port} is in use: choose another with --port, 0 for any free one"),
        ErrorKind::PermissionDenied => {
            anyhow!("port {port} is not allowed here: choose one above 1023 with --port")
        }
        _ => anyhow!(error).context(format!("cannot listen on port {port}")),
    })
}

fn open_browser(url: &str) {
    let mut command = match std::env::consts::OS {
        "macos" => Command::new("open"),
        "windows" => Command::new("explorer"),
        _ => Command::new("xdg-open"),
    };
    // Not waited for: the process may be the browser itself.
    let spawned = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if spawned.is_err() {
        eprintln!("xtask: the browser could not be started: open {url} yourself");
    }
}

/// Serves until the listener fails.
fn serve(listener: TcpListener, root: PathBuf, isolated: bool) -> Result<()> {
    let server = Server::from_listener(listener, None).map_err(|error| anyhow!("cannot serve: {error}"))?;
    let (server, root) = (Arc::new(server), Arc::new(root));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (server, root) = (Arc::clone(&server), Arc::clone(&root));
            std::thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    let response = answer(&request, &root, isolated);
                    // Browsers may close a connection early; that is not an error here.
                    let _ = request.respond(response);
                }
            })
        })
        .collect();
    for worker in workers {
        if worker.join().is_err() {
            bail!("a worker of the server ended");
        }
    }
    Ok(())
}

fn answer(request: &Request, root: &Path, isolated: bool) -> ResponseBox {
    let mut response = match request.method() {
        Method::Get | Method::Head if !is_local(request) => text(403, "only for this machine\n"),
        Method::Get | Method::Head => match site::resolve(root, request.url()) {
            Some(path) => {
                file(&path, header_of(request, "Range")).unwrap_or_else(|_| text(500, "cannot be read\n"))
            }
            None => text(404, "not found\n"),
        },
        _ => {
            let mut response = text(405, "only GET and HEAD\n");
            add(&mut response, "Allow", "GET, HEAD");
            response
        }
    };
    // Edited files appear at the next load.
    add(&mut response, "Cache-Control", "no-cache");
    add(&mut response, "X-Content-Type-Options", "nosniff");
    if isolated {
        add(&mut response, "Cross-Origin-Opener-Policy", "same-origin");
        add(&mut response, "Cross-Origin-Embedder-Policy", "require-corp");
        add(&mut response, "Cross-Origin-Resource-Policy", "same-origin");
    }
    response
}

/// Whether the request's `Host` is this machine. A page of another site whose name resolves to 127.0.0.1 has another
/// host (DNS rebinding).
fn is_local(request: &Request) -> bool {
    let host = header_of(request, "Host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

fn header_of<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
}

fn text(status: u16, body: &'static str) -> ResponseBox {
    let mut response = Response::from_data(body.as_bytes()).with_status_code(status).boxed();
    add(&mut response, "Content-Type", "text/plain; charset=utf-8");
    response
}

fn add(response: &mut ResponseBox, name: &str, value: &str) {
    // Both are ASCII, so this always holds.
    if let Ok(header) = Header::from_bytes(name, value) {
        response.add_header(header);
    }
}

/// A file, or the requested range of it.
fn file(path: &Path, range: Option<&str>) -> std::io::Result<ResponseBox> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let range = range.map_or(Range::Whole, |header| Range::parse(header, size));
    let (status, start, length) = match range {
        Range::Whole => (200, 0, size),
        Range::Part { start, length } => (206, start, length),
        Range::Unsatisfiable => {
            let mut response = text(416, "no such range\n");
            add(&mut response, "Content-Range", &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    file.seek(SeekFrom::Start(start))?;
    let body = Box::new(file.take(length)) as Box<dyn Read + Send>;
    let length_in_memory = usize::try_from(length).ok();
    let mut response = Response::new(StatusCode(status), Vec::new(), body, length_in_memory, None)
        // With its length, not chunked, so that the page can show the progress of the download.
        .with_chunked_threshold(usize::MAX);
    add(&mut response, "Content-Type", site::mime(path).as_deref().unwrap_or("application/octet-stream"));
    add(&mut response, "Accept-Ranges", "bytes");
    if status == 206 {
        add(&mut response, "Content-Range", &format!("bytes {start}-{}/{size}", start + length - 1));
    }
    Ok(response)
}

/// The requested bytes of a file.
#[derive(Debug, PartialEq)]
enum Range {
    /// The whole file: no range, several ranges, or an invalid header (which a server may ignore).
    Whole,
    Part {
        start: u64,
        length: u64,
    },
    Unsatisfiable,
}

impl Range {
    fn parse(header: &str, size: u64) -> Range {
        let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'))
        else {
            return Range::Whole;
        };
        let (start, end) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(size)),
            (Ok(first), Err(_)) if last.trim().is_empty() => (first, size),
            // A suffix range: the last bytes of the file.
            (Err(_), Ok(count)) if first.trim().is_empty() => (size - count.min(size), size),
            _ => return Range::Whole,
        };
        if start < end { Range::Part { start, length: end - start } } else { Range::Unsatisfiable }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn ranges() {
        let part = |start, length| Range::Part { start, length };
        let cases = [
            ("bytes=0-3", part(0, 4)),
            ("bytes=4-", part(4, 6)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=8-99", part(8, 2)),
            ("bytes=0-18446744073709551615", part(0, 10)),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=3-1", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=-", Range::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(Range::parse(header, 10), expected, "{header}");
        }
    }

    /// Sends one request to a server on a small site and returns the whole response.
    fn ask(isolated: bool, request_line: &str, headers: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("www")).unwrap();
        std::fs::write(dir.path().join("www/index.html"), "0123456789").unwrap();
        // Above tiny_http's threshold for chunks.
        std::fs::create_dir_all(dir.path().join("pkg")).unwrap();
        std::fs::write(dir.path().join("pkg/big.wasm"), vec![b'w'; 100_000]).unwrap();
        let listener = bind(0).unwrap();
        let address = listener.local_addr().unwrap();
        let root = dir.path().to_owned();
        std::thread::spawn(move || serve(listener, root, isolated));
        let mut stream = TcpStream::connect(address).unwrap();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        write!(stream, "{request_line} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_page_comes_whole_with_type_and_length() {
        let answer = ask(false, "GET /", "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("Content-Type: text/html; charset=utf-8"), "{answer}");
        assert!(answer.contains("Content-Length: 10"), "{answer}");
        assert!(answer.contains("Cache-Control: no-cache"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n0123456789"), "{answer}");
        assert!(!answer.contains("Cross-Origin"), "{answer}");
    }

    #[test]
    fn large_files_tell_their_length() {
        let answer = ask(false, "GET /pkg/big.wasm", "");
        assert!(
            answer.contains("Content-Length: 100000") && answer.contains("application/wasm"),
            "{}",
            &answer[..300]
        );
        assert!(answer.ends_with("www"));
    }

    #[test]
    fn head_sends_no_body() {
        let answer = ask(false, "HEAD /", "");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Content-Length: 10"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn a_range_is_a_part() {
        let answer = ask(false, "GET /", "Range: bytes=2-4\r\n");
        assert!(answer.starts_with("HTTP/1.1 206") && answer.contains("Content-Range: bytes 2-4/10"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n234"), "{answer}");
        let answer = ask(false, "GET /", "Range: bytes=10-\r\n");
        assert!(answer.starts_with("HTTP/1.1 416") && answer.contains("bytes */10"), "{answer}");
    }

    #[test]
    fn isolation_headers_only_on_request() {
        let answer = ask(true, "GET /", "");
        assert!(answer.contains("Cross-Origin-Opener-Policy: same-origin"), "{answer}");
        assert!(answer.contains("Cross-Origin-Embedder-Policy: require-corp"), "{answer}");
    }

    #[test]
    fn other_requests_are_refused() {
        assert!(ask(false, "GET /nothing.html", "").starts_with("HTTP/1.1 404"));
        assert!(ask(false, "GET /../Cargo.toml", "").starts_with("HTTP/1.1 404"));
        assert!(ask(false, "DELETE /index.html", "").starts_with("HTTP/1.1 405"));
        assert!(ask(false, "GET /", "Host: evil.example\r\n").starts_with("HTTP/1.1 403"));
    }

    #[test]
    fn a_taken_port_is_said_plainly() {
        let taken = bind(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(port).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} is in use")) && error.contains("--port"), "{error}");
    }
}
