use std::net::{IpAddr, SocketAddr};

use procession_model::DialBack;
use tokio::net::{UdpSocket, lookup_host};

use crate::cluster::Cluster;
use crate::{KubernetesConfig, KubernetesError};

/// How pods reach this machine: at the address from which it reaches the cluster.
pub(crate) async fn dial_back(
    config: &KubernetesConfig,
    cluster: &Cluster,
    server: (&str, u16),
) -> Result<DialBack, KubernetesError> {
    let advertise = config.advertise.clone();
    if let Some(bind) = config.bind.clone() {
        return Ok(DialBack::Network { bind, advertise });
    }
    let network = |own: IpAddr| DialBack::Network { bind: SocketAddr::new(own, 0).to_string(), advertise };
    let server = lookup_host(server).await.map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    if let Some(own) = own_address(server).await {
        return Ok(network(own));
    }
    // The way to the server is this machine's own: that to its nodes may not be.
    let nodes = cluster.nodes().await.map_err(|why| KubernetesError::NoWayBack(why.words().to_owned()))?;
    let addresses = nodes.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let internal = internal.filter_map(|address| Some(SocketAddr::new(address.address.parse().ok()?, 443)));
    match own_address(internal.collect()).await {
        Some(own) => Ok(network(own)),
        None => Err(KubernetesError::NoWayBack(
            "the API server is reached over the loopback, and no node has an address that is not".to_owned(),
        )),
    }
}

/// From which address this machine would reach the first of these that is not itself by the loopback. Nothing is sent.
async fn own_address(there: Vec<SocketAddr>) -> Option<IpAddr> {
    for at in there {
        let any: SocketAddr = if at.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let Ok(socket) = UdpSocket::bind(any).await else { continue };
        if socket.connect(at).await.is_ok()
            && let Ok(own) = socket.local_addr()
            && !own.ip().is_loopback()
        {
            return Some(own.ip());
        }
    }
    None
}
