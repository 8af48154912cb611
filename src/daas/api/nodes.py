"""/api/v1/nodes and /api/v1/capacity: the hypervisor hosts, and how much is left of them"""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from daas.api.auth import actor, require_admin, require_operator
from daas.api.core import core
from daas.api.openapi import GUARDED, TAGS, answers
from daas.api.render import maybe_when, reply, tagged
from daas.api.schemas import (
    CapacityOut,
    CapacityQuery,
    FitOut,
    NodeIn,
    NodeList,
    NodeOut,
    NodePath,
)
from daas.nodes import service
from daas.nodes.placement import Need
from daas.nodes.service import Seen
from daas.templates import service as templates

bp = APIBlueprint(
    "nodes", __name__, url_prefix="/api/v1", abp_tags=[TAGS["nodes"]], abp_security=GUARDED
)


@bp.get("/nodes", responses=answers(401, 403, ok=NodeList, same=None))
def list_all() -> Response:
    """The nodes of all clusters: for operators"""
    require_operator("The list of nodes")
    with core().database.reading() as db:
        return tagged(NodeList(items=[_view(seen) for seen in service.listed(db)]))


@bp.patch("/nodes/<name>", responses=answers(401, 403, 404, 413, 415, ok=NodeOut))
def change(path: NodePath, body: NodeIn) -> Response:
    """Maintenance and limit of a node: for operators

    Both are about new desktops; those that are there stay. What is left out stays as it is."""
    who = require_operator("Changing a node")
    changes = {name: getattr(body, name) for name in sorted(body.model_fields_set)}
    with core().database.transaction() as db:
        view = _view(service.change(db, who.name, path.name, changes))
    return reply(view)


@bp.get("/capacity", responses=answers(401, 403, 404, 409, ok=CapacityOut, same=None))
def capacity(query: CapacityQuery) -> Response:
    """How many desktops still fit, with one node lost, and what limits it: for administrators"""
    require_admin("The capacity")
    with core().database.reading() as db:
        name = query.template or core().settings.default_template
        recipe = templates.recipe(db, actor(), name, query.size)
        need = Need(recipe.size.reserve_mib, recipe.size.cpus, recipe.image, actor().tenant)
        left = service.left(db, recipe.cluster, need, core().limits.placement)
    nodes = [
        FitOut(node=f.node, fits=f.fits, limited_by=f.limited_by, desktops=f.desktops)
        for f in left.nodes
    ]
    view = CapacityOut(
        template=recipe.template,
        size=recipe.size_name,
        cluster=recipe.cluster,
        cpus=need.cpus,
        memory_mib=need.memory_mib,
        fits=left.fits,
        limited_by=left.limited_by,
        fits_one_lost=left.fits_one_lost,
        lost=left.lost,
        nodes=nodes,
    )
    return tagged(view)


def _view(seen: Seen) -> NodeOut:
    node, host = seen.node, seen.host
    return NodeOut(
        name=node.name,
        cluster=node.cluster,
        is_online=node.is_online,
        why=node.why or None,
        offline_since=maybe_when(node.offline_since),
        is_maintenance=node.is_maintenance,
        max_desktops=node.max_desktops,
        desktops=host.desktops,
        cpus=node.cpus,
        memory_mib=node.memory_mib,
        reserved_mib=host.held_mib,
        foreign_mib=node.foreign_mib,
        free_mib=max(0, host.free_mib),
    )
