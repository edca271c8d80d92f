"""A purchase by a client that shares nothing with Floodgate but its .proto files.

It speaks grpcio with stubs generated from those files, signs its own tokens, and follows one unit of money from the
operator who registers an org to the buyer who pays an order:

    reflection and health -> CreateOrg -> CreateSale, ScheduleSale -> Join, GetTicket -> Reserve -> Checkout

Everything that it was told is checked on the way; the first thing that is not so ends it with a traceback. The last
line that it prints is a JSON object about the order, for whoever wants to look into the platform's books.
"""

import argparse
import base64
import json
import sys
import time
import uuid

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from floodgate.admin.v1 import admin_pb2, admin_pb2_grpc
from floodgate.fleet.v1 import fleet_pb2, fleet_pb2_grpc
from floodgate.storefront.v1 import storefront_pb2, storefront_pb2_grpc

CALL_S = 10  # What one call may take.
SOON_S = 30  # What may take a while: cells that appear, a sale that gets warm, a turn that comes.
POLL_S = 0.1

ORG = "foreign"
STOCK, CAP, QUANTITY = 60, 2, 2
PRICE_UNITS, PRICE_NANOS, CURRENCY = 12, 500_000_000, "EUR"

SERVICES = {
    "control plane": {
        "floodgate.admin.v1.SaleService",
        "floodgate.fleet.v1.CellService",
        "floodgate.fleet.v1.OrgService",
        "floodgate.fleet.v1.PlacementService",
    },
    "router": {
        "floodgate.fleet.v1.ProbeService",
        "floodgate.storefront.v1.StorefrontService",
    },
}


class Signer:
    """A key that signs tokens: compact JWS with EdDSA, as RFC 7515 and RFC 8037 have it."""

    def __init__(self, issuer, kid, key):
        self.issuer, self.kid, self.key = issuer, kid, key

    @classmethod
    def of_platform(cls, path):
        """The platform's key, from its file.

        The file is PKCS#8 version 2 (RFC 5958), where the public half follows the private one. Few libraries read
        that, but the private half has its fixed place: 32 bytes in an OCTET STRING within an OCTET STRING.
        """
        with open(path, "rb") as file:
            der = file.read()
        seed = der.index(b"\x04\x22\x04\x20") + 4
        return cls("platform", "platform", Ed25519PrivateKey.from_private_bytes(der[seed : seed + 32]))

    @classmethod
    def of_org(cls, org):
        return cls(f"orgs/{org}", "shop-1", Ed25519PrivateKey.generate())

    def public(self):
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def token(self, subject, role):
        header = {"alg": "EdDSA", "typ": "JWT", "kid": self.kid}
        claims = {
            "iss": self.issuer,
            "aud": "floodgate",
            "sub": subject,
            "role": role,
            "exp": int(time.time()) + 3600,
        }
        signed = f"{part(header)}.{part(claims)}"
        return f"{signed}.{unpadded(self.key.sign(signed.encode()))}"

    def bearer(self, subject, role):
        """The metadata of a call by `subject`."""
        return [("authorization", f"Bearer {self.token(subject, role)}")]


def part(fields):
    return unpadded(json.dumps(fields, separators=(",", ":")).encode())


def unpadded(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def check(holds, what):
    """`assert` that no flag turns off."""
    if not holds:
        raise AssertionError(what)


def refusal(call, *args, **kwargs):
    """The code with which a call is refused; none when it is answered."""
    try:
        call(*args, timeout=CALL_S, **kwargs)
    except grpc.RpcError as error:
        return error.code()
    return None


def eventually(what, try_once):
    """The first answer of `try_once` that is not None."""
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        answer = try_once()
        if answer is not None:
            return answer
        time.sleep(POLL_S)
    raise TimeoutError(f"not within {SOON_S} s: {what}")


def look_around(name, channel):
    """Asks a server who it is: health of the whole and of each service, and what it says of its own methods."""
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", *SERVICES[name]]:
        request = health_pb2.HealthCheckRequest(service=service)
        status = health.Check(request, timeout=CALL_S).status
        check(status == health_pb2.HealthCheckResponse.SERVING, f"{name}: {service!r} is {status}")

    reflected = ProtoReflectionDescriptorDatabase(channel)
    services = set(reflected.get_services())
    missing = SERVICES[name] - services
    check(not missing, f"{name}: reflection does not name {missing}")

    ours = {
        "floodgate.admin.v1": admin_pb2,
        "floodgate.fleet.v1": fleet_pb2,
        "floodgate.storefront.v1": storefront_pb2,
    }
    for service in SERVICES[name]:
        package, _, short = service.rpartition(".")
        theirs = reflected.FindFileContainingSymbol(service)
        generated = descriptor_pb2.FileDescriptorProto()
        ours[package].DESCRIPTOR.CopyToProto(generated)
        check(
            methods(theirs, short) == methods(generated, short),
            f"{name}: reflection and the .proto file differ in {service}",
        )


def methods(file, service):
    """Names and types of a service's methods."""
    found = [one for one in file.service if one.name == service]
    check(len(found) == 1, f"{file.name} has no {service}")
    return {(one.name, one.input_type, one.output_type, one.server_streaming) for one in found[0].method}


def register(control, platform, shop):
    """An operator registers the org, as soon as the control plane has seen its cells."""
    orgs = fleet_pb2_grpc.OrgServiceStub(control)
    operator = platform.bearer("operator", "operator")
    key = fleet_pb2.PublicKey(kid=shop.kid, ed25519=shop.public())
    request = fleet_pb2.CreateOrgRequest(
        org_id=ORG,
        org=fleet_pb2.Org(display_name="A shop in Python", keys=[key]),
        request_id=str(uuid.uuid4()),
    )

    def create():
        try:
            return orgs.CreateOrg(request, metadata=operator, timeout=CALL_S)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    org = eventually("an org with cells", create)
    check(org.name == f"orgs/{ORG}", org)
    as_stranger = shop.bearer("merchant", "merchant")
    code = refusal(orgs.CreateOrg, request, metadata=as_stranger)
    check(code == grpc.StatusCode.PERMISSION_DENIED, f"a merchant registers orgs: {code}")


def open_sale(control, shop):
    """A merchant writes a sale down, schedules it, and waits until its cells are ready. Returns its name."""
    sales = admin_pb2_grpc.SaleServiceStub(control)
    merchant = shop.bearer("merchant", "merchant")
    sale = admin_pb2.Sale(display_name="One of sixty", stock=STOCK, cap=CAP)
    sale.price.currency_code, sale.price.units, sale.price.nanos = CURRENCY, PRICE_UNITS, PRICE_NANOS
    now = time.time()
    sale.start_time.FromSeconds(int(now) + 2)
    sale.end_time.FromSeconds(int(now) + 600)
    sale.hold_ttl.FromSeconds(60)

    request = admin_pb2.CreateSaleRequest(parent=f"orgs/{ORG}", sale=sale, request_id=str(uuid.uuid4()))
    made = sales.CreateSale(request, metadata=merchant, timeout=CALL_S)
    check(made.state == admin_pb2.Sale.STATE_DRAFT, made)
    again = sales.CreateSale(request, metadata=merchant, timeout=CALL_S)
    check(again.name == made.name, "the same request made another sale")
    sales.ScheduleSale(admin_pb2.ScheduleSaleRequest(name=made.name), metadata=merchant, timeout=CALL_S)

    def warm():
        now = sales.GetSale(admin_pb2.GetSaleRequest(name=made.name), metadata=merchant, timeout=CALL_S)
        return now if now.warm else None

    eventually(f"{made.name} is warm", warm)
    return made.name


def buy(edge, shop, sale):
    """A buyer stands in line, holds two units and pays them. Returns the paid order."""
    store = storefront_pb2_grpc.StorefrontServiceStub(edge)
    ada = shop.bearer("ada", "buyer")

    def join():
        try:
            return store.Join(storefront_pb2.JoinRequest(sale=sale), metadata=ada, timeout=CALL_S)
        except grpc.RpcError as error:
            # The router may hear of org and sale a moment after the control plane has answered.
            news = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
            if error.code() not in news and error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return None

    ticket = eventually("a place in line", join)
    deadline = time.monotonic() + SOON_S
    while ticket.state != storefront_pb2.Ticket.STATE_ADMITTED:
        check(ticket.state == storefront_pb2.Ticket.STATE_WAITING, ticket)
        check(time.monotonic() < deadline, f"never admitted: {ticket}")
        time.sleep(ticket.ask_again.ToTimedelta().total_seconds())
        request = storefront_pb2.GetTicketRequest(sale=sale, ticket=ticket.ticket)
        ticket = store.GetTicket(request, metadata=ada, timeout=CALL_S)

    watch = store.WatchSale(storefront_pb2.WatchSaleRequest(sale=sale), metadata=ada, timeout=CALL_S)
    page = next(watch)
    watch.cancel()
    check((page.phase, page.stock) == (storefront_pb2.SaleState.PHASE_OPEN, STOCK), page)

    reserve = storefront_pb2.ReserveRequest(
        sale=sale, ticket=ticket.ticket, quantity=QUANTITY, request_id=str(uuid.uuid4())
    )
    mallory = shop.bearer("mallory", "buyer")
    code = refusal(store.Reserve, reserve, metadata=mallory)
    check(code == grpc.StatusCode.PERMISSION_DENIED, f"a stolen ticket: {code}")
    held = store.Reserve(reserve, metadata=ada, timeout=CALL_S)
    check(held.state == storefront_pb2.Order.STATE_HELD and len(set(held.units)) == QUANTITY, held)
    check(0 < held.time_left.ToTimedelta().total_seconds() <= 60, held)
    again = store.Reserve(reserve, metadata=ada, timeout=CALL_S)
    check((again.name, list(again.units)) == (held.name, list(held.units)), again)

    checkout = storefront_pb2.CheckoutRequest(name=held.name, payment_method="pm_card_visa")
    paid = store.Checkout(checkout, metadata=ada, timeout=CALL_S)
    check(paid.state == storefront_pb2.Order.STATE_PAID, paid)
    check((paid.name, list(paid.units)) == (held.name, list(held.units)), paid)
    shown = store.GetOrder(storefront_pb2.GetOrderRequest(name=held.name), metadata=ada, timeout=CALL_S)
    check(shown == paid, f"{shown} is not {paid}")
    code = refusal(store.GetOrder, storefront_pb2.GetOrderRequest(name=held.name), metadata=mallory)
    check(code == grpc.StatusCode.NOT_FOUND, f"somebody else's order: {code}")
    return paid


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--control-plane", required=True, metavar="HOST:PORT")
    options.add_argument("--router", required=True, metavar="HOST:PORT")
    options.add_argument("--platform-key", required=True, metavar="FILE")
    given = options.parse_args()

    platform, shop = Signer.of_platform(given.platform_key), Signer.of_org(ORG)
    with grpc.insecure_channel(given.control_plane) as control, grpc.insecure_channel(given.router) as edge:
        look_around("control plane", control)
        look_around("router", edge)
        register(control, platform, shop)
        sale = open_sale(control, shop)
        order = buy(edge, shop, sale)

    minor = order.total.units * 100 + order.total.nanos // 10_000_000
    json.dump(
        {
            "org": ORG,
            "sale": sale,
            "order": order.name,
            "units": list(order.units),
            "amount_minor": minor,
            "currency": order.total.currency_code,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()
