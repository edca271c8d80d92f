//! A door in the way to a server: shut, connections through it break and new ones are refused.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub(crate) struct Gate {
    target: SocketAddr,
    pub(crate) address: SocketAddr,
    shut: CancellationToken,
}

impl Gate {
    pub(crate) async fn open(target: SocketAddr) -> Self {
        let mut gate =
            Self { target, address: ([127, 0, 0, 1], 0).into(), shut: CancellationToken::new() };
        gate.reopen().await;
        gate
    }

    pub(crate) fn shut(&self) {
        self.shut.cancel();
    }

    pub(crate) async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.shut = CancellationToken::new();
        let (shut, target) = (self.shut.clone(), self.target);
        tokio::spawn(shut.clone().run_until_cancelled_owned(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                tokio::spawn(shut.clone().run_until_cancelled_owned(async move {
                    let mut far = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut near, &mut far).await
                }));
            }
        }));
    }
}
