use std::time::Duration;

use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt;
use kube::client::retry::RetryPolicy;
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

/// How long a connection is kept that nobody uses. Without a limit, as kube makes its own client, each stays open until the server
/// closes it, also when nothing is launched any more.
const IDLE: Duration = Duration::from_millis(500);

/// What kube makes of a configuration, with connections that end when nothing is asked any more. Has to be called inside a runtime.
///
/// # Errors
/// What the configuration says of certificates or of who we are cannot be used.
pub(crate) fn client(config: Config) -> Result<Client, String> {
    if let Some(proxy) = &config.proxy_url {
        return Err(format!(
            "it is to be reached through the proxy {proxy}, and this goes through none; unset HTTPS_PROXY, or proxy-url in the kubeconfig"
        ));
    }
    let failed = |error: kube::Error| error.to_string();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(config.connect_timeout);
    let connector = config.rustls_https_connector_with_connector(tcp).map_err(failed)?;
    let mut http = Http::builder(TokioExecutor::new());
    let http = http.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
