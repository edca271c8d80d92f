//! The line to the platform: where it is, and who calls.

use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::failure::Failure;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the platform is and who calls.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Reach {
    /// Address of the control plane, like http://host:port
    #[arg(long, global = true, env = "FLOODGATE_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,

    /// Address of the router, for what buyers see
    #[arg(long, global = true, env = "FLOODGATE_ROUTER", value_name = "URL")]
    router: Option<String>,

    /// File with the CA of the platform's addresses, in PEM, where they begin with https; without it those of this machine are trusted
    #[arg(long, global = true, env = "FLOODGATE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Token to call with
    #[arg(
        long,
        global = true,
        env = "FLOODGATE_TOKEN",
        hide_env_values = true,
        value_name = "JWS"
    )]
    token: Option<String>,

    /// File with the token, when it is not given itself
    #[arg(long, global = true, env = "FLOODGATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Seconds to wait for an answer
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    timeout: u64,
}

/// Adds the caller's token to every call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel that says who calls.
pub(crate) type Line = InterceptedService<Channel, Bearer>;

impl Reach {
    /// The line to the control plane.
    pub(crate) fn control_plane(&self) -> Result<Line, Failure> {
        self.line(self.endpoint.as_deref(), "the control plane: --endpoint or FLOODGATE_ENDPOINT")
    }

    /// The line to the router.
    pub(crate) fn router(&self) -> Result<Line, Failure> {
        self.line(self.router.as_deref(), "the router: --router or FLOODGATE_ROUTER")
    }

    fn line(&self, address: Option<&str>, name: &str) -> Result<Line, Failure> {
        let address = address.ok_or_else(|| Failure::Usage(format!("name {name}")))?;
        let no_address = || {
            let how = "write it like http://host:port, or https";
            Failure::Usage(format!("{address:?} is no address; {how}"))
        };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| no_address())?;
        let endpoint = match endpoint.uri().scheme_str() {
            Some("http") => endpoint,
            Some("https") => self.encrypted(endpoint)?,
            _ => return Err(no_address()),
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_secs(self.timeout))
            .connect_lazy();
        Ok(InterceptedService::new(channel, self.bearer()?))
    }

    fn encrypted(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let tls = match &self.ca {
            Some(file) => {
                let pem = std::fs::read(file)
                    .map_err(Failure::io(format!("read the CA {}", file.display())))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let usable = endpoint.tls_config(tls);
        usable.map_err(|error| Failure::Usage(format!("name a file with a CA (--ca): {error}")))
    }

    fn bearer(&self) -> Result<Bearer, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(Failure::io(format!("read the token {}", file.display())))?,
            (None, None) => {
                let what =
                    "name a token: --token, --token-file, FLOODGATE_TOKEN or FLOODGATE_TOKEN_FILE";
                return Err(Failure::Usage(what.to_owned()));
            }
        };
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| Failure::Usage("the token is no compact JWS".to_owned()))?;
        value.set_sensitive(true);
        Ok(Bearer(value))
    }
}
