mod common;
use common::Host;
use std::io::{Read, Write};
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}
#[tokio::test]
async fn leak() {
    let host = Host::unix();
    let path = host.path();
    let t = std::thread::spawn(move || {
        for i in 0..20 {
            for _ in 0..1000 {
                let mut s = std::os::unix::net::UnixStream::connect(&path).unwrap();
                let _ = s.write_all(b"GET /");
                let _ = s.read_to_end(&mut Vec::new());
            }
            println!("{i} {} KiB threads {}", resident(), std::fs::read_dir("/proc/self/task").unwrap().count());
        }
    });
    while !t.is_finished() { tokio::time::sleep(std::time::Duration::from_millis(20)).await; }
}
