//! `etcd-paused`: etcd and the control plane stand still (SIGSTOP) for five times the longest lease, with their
//! connections open, and go on as if nothing had happened. See `etcd_gone`.

use super::etcd_gone::{Gone, How, go};
use super::{DrillError, Field};

pub(super) const HYPOTHESIS: &str = "while etcd and the control plane stand still buyers buy as before, at routers that are \
     restarted meanwhile, too; afterwards everybody follows etcd again";

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Gone>, DrillError> {
    go(field, How::Paused).await
}
