//! A server on tokio and hyper, with hyper's client. Arguments: the port; the number of threads.
//!
//! kept   one client for all: connections are kept
//! late   the calls are made after the response
//! spawn  each call in a task of its own
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, Request, Response, Uri};
use hyper_util::client::legacy::{connect::HttpConnector, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::{Duration, SystemTime};

type Leaf = Client<HttpConnector, Empty<Bytes>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn number(query: &str, name: &str) -> u64 {
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name));
    found.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Up to so many milliseconds; the clock's nanoseconds are random enough.
async fn nap(ms: u64) {
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map(|d| d.subsec_nanos())
        .unwrap_or(0);
    tokio::time::sleep(Duration::from_micros(
        u64::from(nanos / 1000) % (ms * 1000 + 1),
    ))
    .await;
}

async fn call(leaf: Leaf, path: String, ms: u64) -> Result<(), Failure> {
    nap(ms).await;
    let port = std::env::var("LEAF_PORT")?;
    let uri: Uri = format!("http://127.0.0.1:{port}{path}?ms={ms}").parse()?;
    let body = leaf.get(uri).await?.into_body().collect().await?.to_bytes();
    if std::str::from_utf8(&body)?.trim() == path {
        Ok(())
    } else {
        Err("another answer".into())
    }
}

async fn work(leaf: Leaf, kind: String, ident: String, calls: u64, ms: u64) -> Result<(), Failure> {
    for n in 0..calls {
        let one = call(leaf.clone(), format!("/{ident}/{n}"), ms);
        if kind == "spawn" {
            tokio::spawn(one).await??
        } else {
            one.await?
        }
    }
    Ok(())
}

async fn handle(leaf: Leaf, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Failure> {
    let mut parts = request.uri().path().split('/').skip(1);
    let (kind, ident) = (
        parts.next().unwrap_or("").to_string(),
        parts.next().unwrap_or("").to_string(),
    );
    let query = request.uri().query().unwrap_or("");
    let (calls, ms) = (number(query, "calls="), number(query, "ms="));
    let late = kind == "late";
    let todo = work(leaf, kind, ident.clone(), calls, ms);
    if late {
        drop(tokio::spawn(todo))
    } else {
        todo.await?
    }
    Ok(Response::new(Full::new(Bytes::from(format!("{ident}\n")))))
}

/// Calls that no request asked for: each is a root.
async fn poll(leaf: Leaf) {
    for n in 0..1_000_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let _ = call(leaf.clone(), format!("/p{n:06}/0"), 1).await;
    }
}

async fn serve(port: u16) -> Result<(), Failure> {
    let leaf: Leaf = Client::builder(TokioExecutor::new()).build_http();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    tokio::spawn(poll(leaf.clone()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let leaf = leaf.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(leaf.clone(), request));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().ok_or("which port?")?.parse()?;
    let threads = arguments.next().ok_or("how many threads?")?.parse()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?
        .block_on(serve(port))
}
