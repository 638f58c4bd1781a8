//! The two ways in which a person or a supervisor asks a process to end.

/// Ready at the first SIGTERM or SIGINT since the call, not only since it is waited for: whoever has something to clean up
/// calls this before there is anything.
pub fn ended() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        // Without handlers the default action ends the process, which is also what was asked for.
        let (Ok(mut terminate), Ok(mut interrupt)) = handlers else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
