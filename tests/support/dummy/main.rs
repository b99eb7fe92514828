//! Behaves to its outside as the operator does: flags, addresses file, `/readyz`, `/metrics`. Argument `crash` makes it end
//! at once, `unready` makes `/readyz` answer 503.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::exit,
    thread,
};

fn main() -> std::io::Result<()> {
    let args: Vec<String> = env::args().collect();
    let flag = |name: &str| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|at| args.get(at + 1))
            .cloned()
    };
    let given = |name: &str| args.iter().any(|arg| arg == name);
    for key in ["KUBECONFIG", "GREETING", "CARGO_MANIFEST_DIR"] {
        println!("{key}={}", env::var(key).unwrap_or_default());
    }
    if given("crash") {
        eprintln!("the reason of the crash");
        exit(3);
    }
    let health = TcpListener::bind(flag("--health-address").expect("--health-address"))?;
    let metrics = TcpListener::bind(flag("--metrics-address").expect("--metrics-address"))?;
    let addresses = format!(
        "{{\"health\":\"{}\",\"metrics\":\"{}\"}}",
        health.local_addr()?,
        metrics.local_addr()?
    );
    let ready = if given("unready") {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    thread::spawn(move || serve(&metrics, "200 OK", "answers 42\n"));
    fs::write(flag("--address-file").expect("--address-file"), addresses)?;
    serve(&health, ready, "ready or not\n");
    Ok(())
}

fn serve(listener: &TcpListener, status: &str, body: &str) {
    for stream in listener.incoming().flatten() {
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        // All headers are read first: closing with unread bytes would reset the connection.
        let _ = lines.find(String::is_empty);
        let _ = write!(
            &stream,
            "HTTP/1.0 {status}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
}
