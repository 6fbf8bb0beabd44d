"""Names of event types in Chinese, Japanese, German, Spanish and French, by the contract's types.

A word that may mean two types (Spanish "visita", Chinese 提交) is left out: its type is asked for.
"""

from __future__ import annotations

from recommender.data.contract import CART_REMOVAL, IMPRESSION, RETURN, SEARCH, WISHLIST_REMOVAL

# Separated by commas, as shops write them; case and separators make no difference.
NAMES_BY_LANGUAGE = {
    "view": """
        浏览, 瀏覽, 点击, 點擊, 查看, 商品浏览, 浏览商品, 商品点击, 点击商品, 查看商品, 商品详情, 浏览详情,
        閲覧, クリック, 商品閲覧, 商品クリック, 商品詳細, 詳細閲覧,
        ansicht, ansichten, angesehen, aufruf, aufrufe, seitenaufruf, produktansicht, produktaufruf, artikelansicht,
        klick, klicks, geklickt,
        vista, vistas, visto, ver producto, vista de producto, producto visto, clic, clics,
        vue, vues, vu, consultation, consulté, vue produit, produit vu, page vue, fiche produit
    """,
    "cart": """
        加购, 加購, 购物车, 購物車, 加入购物车, 加入購物車, 加购物车, 添加购物车, 添加到购物车, 放入购物车,
        カート, カート追加, カートに追加, カートに入れる, カート投入, 買い物かご,
        warenkorb, einkaufswagen, in den warenkorb, in den warenkorb gelegt, zum warenkorb hinzugefügt,
        carrito, cesta, añadir al carrito, añadido al carrito, agregar al carrito, agregado al carrito,
        añadir a la cesta,
        panier, ajout panier, ajout au panier, ajouter au panier, ajouté au panier
    """,
    CART_REMOVAL: """
        移出购物车, 移出購物車, 从购物车移除, 从购物车删除, 删除购物车, カートから削除, カート削除,
        aus dem warenkorb entfernt, warenkorb entfernt, eliminar del carrito, eliminado del carrito,
        quitar del carrito, quitado del carrito,
        retrait panier, retrait du panier, retiré du panier, supprimer du panier, supprimé du panier
    """,
    "checkout": """
        结算, 結算, 结账, 結帳, 去结算, チェックアウト, レジ, 購入手続き,
        kasse, zur kasse, bezahlvorgang, iniciar compra, iniciar pago,
        passage en caisse
    """,
    "purchase": """
        购买, 購買, 已购买, 下单, 下單, 成交, 支付, 付款, 已支付, 已付款, 支付成功, 购买成功, 订单, 訂單, 交易,
        購入, 購入済み, 購入完了, 注文, 注文完了, 決済, 決済完了, お買い上げ,
        kauf, käufe, gekauft, einkauf, bestellung, bestellungen, bestellt,
        compra, compras, comprar, comprado, compra realizada, pedido, pedidos, venta, ventas,
        achat, achats, acheter, acheté, commande, commandes, commandé, vente, ventes
    """,
    RETURN: """
        退货, 退貨, 退款, 已退货, 已退款, 取消, 已取消, 取消订单, 订单取消, 返品, 返金, キャンセル, 注文キャンセル,
        retoure, retouren, rückgabe, rücksendung, zurückgegeben, retourniert, erstattung, erstattet, storno,
        storniert, stornierung,
        devolución, devolucion, devoluciones, devuelto, reembolso, reembolsado, cancelación, cancelacion, cancelado,
        pedido cancelado,
        retour, retours, retourné, remboursement, remboursé, annulation, annulé, commande annulée
    """,
    "wishlist": """
        收藏, 已收藏, 加入收藏, 收藏商品, 心愿单, 加入心愿单, お気に入り, お気に入り追加, お気に入りに追加,
        ほしい物リスト,
        merkzettel, merkliste, wunschliste, wunschzettel, auf die merkliste, auf den merkzettel, favorit, favoriten,
        favorito, favoritos, añadir a favoritos, añadido a favoritos, agregar a favoritos, lista de deseos,
        favori, favoris, ajout aux favoris, ajouter aux favoris, ajouté aux favoris, liste de souhaits, liste d'envies
    """,
    WISHLIST_REMOVAL: """
        取消收藏, お気に入り解除, お気に入りから削除, von der merkliste entfernt, von der wunschliste entfernt,
        eliminar de favoritos, quitar de favoritos, retrait des favoris, retiré des favoris
    """,
    SEARCH: """
        搜索, 搜尋, 搜索商品, 商品搜索, 検索, 商品検索,
        suche, suchen, gesucht, suchanfrage, búsqueda, busqueda, búsquedas, buscar, buscado,
        recherche, recherches, rechercher, recherché
    """,
    IMPRESSION: """
        曝光, 展示, 展现, 商品曝光, インプレッション, 表示,
        einblendung, einblendungen, angezeigt, impresión, impresion, mostrado,
        affichage, affichages, affiché
    """,
}
# Parts of names that speak against the item.
AGAINST = (
    "退|拒|取消|删除|刪除|移除|不|削除|返|キャンセル|entfern|lösch|zurück|storn|elimin|quitar|devol|retir|supprim|annul"
)
