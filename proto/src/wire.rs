//! Generated messages, clients and servers, one module an audience.

pub use floodgate::{
    admin::v1 as admin, cell::v1 as cell, events::v1 as events, fleet::v1 as fleet,
    storefront::v1 as storefront,
};
pub use google::r#type::Money;

/// The descriptors of all of our files and what they import, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floodgate.descriptors"));

// Generated code finds its neighbours by the path of their packages.
mod floodgate {
    #![allow(unreachable_pub, reason = "re-exported above")]

    pub mod storefront {
        /// What buyers' storefronts call.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
            #![allow(
                unused_qualifications,
                clippy::pedantic,
                clippy::allow_attributes_without_reason,
                reason = "generated"
            )]
            tonic::include_proto!("floodgate.storefront.v1");
        }
    }
    pub mod admin {
        /// What merchants call.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
            #![allow(
                unused_qualifications,
                clippy::pedantic,
                clippy::allow_attributes_without_reason,
                reason = "generated"
            )]
            tonic::include_proto!("floodgate.admin.v1");
        }
    }
    pub mod fleet {
        /// What operators call.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
            #![allow(
                unused_qualifications,
                clippy::pedantic,
                clippy::allow_attributes_without_reason,
                reason = "generated"
            )]
            tonic::include_proto!("floodgate.fleet.v1");
        }
    }
    pub mod cell {
        /// What routers say to cells, and what the planes write down in etcd.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
            #![allow(
                unused_qualifications,
                clippy::pedantic,
                clippy::allow_attributes_without_reason,
                reason = "generated"
            )]
            tonic::include_proto!("floodgate.cell.v1");

            pub use crate::frame::Frame;
        }
    }
    pub mod events {
        /// What the ledger holds.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
            #![allow(
                unused_qualifications,
                clippy::pedantic,
                clippy::allow_attributes_without_reason,
                reason = "generated"
            )]
            tonic::include_proto!("floodgate.events.v1");
        }
    }
}

mod google {
    pub mod r#type {
        #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
        tonic::include_proto!("google.r#type");
    }
}
