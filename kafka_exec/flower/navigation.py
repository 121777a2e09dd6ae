"""Flower's templates together with ours, and our pages in Flower's navigation."""

from __future__ import annotations

import logging
from pathlib import Path

from tornado.escape import xhtml_escape
from tornado.template import Loader, Template

logger = logging.getLogger("kafka_exec")

OURS = Path(__file__).parent

#: The template of Flower's navigation, and the end of its first list, before which our pages stand.
_NAVIGATION, _ANCHOR = "navbar.html", "</ul>"

_ITEM = """  <li class="nav-item">
          <a class="nav-link{{% if active_tab == 'kafka' %}} active{{% end %}}" href="{link}"
            {{% if active_tab == 'kafka' %}}aria-current="page"{{% end %}}>Kafka</a>
        </li>
      """


class Templates(Loader):
    """Loads Flower's templates, and those that we have beside.

    Args:
        flowers: the folder of Flower's.
        link: the address to which the navigation leads.
    """

    def __init__(self, flowers: str, link: str) -> None:
        super().__init__(flowers)
        self._link = link

    def _create_template(self, name: str) -> Template:
        ours = OURS / name
        text = (ours if ours.is_file() else Path(self.root, name)).read_text(encoding="utf-8")
        return Template(self._with_us(text) if name == _NAVIGATION else text, name=name, loader=self)

    def _with_us(self, text: str) -> str:
        if _ANCHOR not in text:
            logger.warning("this version of Flower has no place for Kafka in its navigation: open %s", self._link)
        item = _ITEM.format(link=xhtml_escape(self._link))
        return text.replace(_ANCHOR, item + _ANCHOR, 1)
