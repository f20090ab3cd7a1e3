//! The server as a process of its own: `sink CERTIFICATE` writes its certificate to that file, then its port to stdout.
//! Ends when its stdin does.

use std::io::{self, Read};
use std::{env, fs};

use smtp_oauth_benches::client::Failed;
use smtp_oauth_benches::sink::Sink;

fn main() -> Result<(), Failed> {
    let certificate = env::args_os().nth(1).ok_or("name a file for the certificate")?;
    let sink = Sink::start(0)?;
    fs::write(certificate, sink.root_pem())?;
    println!("{}", sink.address().port());
    io::stdin().read_to_end(&mut Vec::new())?;
    eprintln!("{} messages over {} connections", sink.messages(), sink.connections());
    Ok(())
}
