// A peer for probe.c: File::try_lock of Rust's standard library (1.89 and later) on one path. locks PATH
use std::fs::{File, OpenOptions};
use std::io::{stdin, BufRead};

fn main() {
    let path = std::env::args().nth(1).expect("a path");
    let mut file: Option<File> = None;
    for line in stdin().lock().lines() {
        match line.expect("a line").as_str() {
            "take" => {
                let mut how = OpenOptions::new();
                how.read(true).write(true).create(true).truncate(false);
                let new = how.open(&path).expect("the file");
                match new.try_lock() {
                    Ok(()) => println!("held"),
                    Err(error) => println!("busy {:?}", error),
                }
                file = Some(new);
            }
            "unlock" => {
                file.as_ref().expect("a file").unlock().expect("unlocked");
                println!("done");
            }
            _ => {
                file = None;
                println!("done");
            }
        }
    }
}
