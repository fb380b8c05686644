// What Java's PKIX validation says of certificate chains: by CRLs from a file, and by OCSP.
//
// java Verify.java ROOT.pem CRLS.pem OCSP-URL CHAIN.pem...
// prints a line for each chain: its file, then `good`, or why not, by CRLs and by OCSP.

import java.io.FileInputStream;
import java.net.URI;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertPathValidatorException.BasicReason;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

public class Verify {
    private static final CertificateFactory X509 = x509();

    private final TrustAnchor root;
    private final CertStore crls;
    private final URI ocsp;

    Verify(String root, String crls, String ocsp) throws Exception {
        this.root = new TrustAnchor((X509Certificate) read(root).iterator().next(), null);
        try (var file = new FileInputStream(crls)) {
            var lists = new CollectionCertStoreParameters(X509.generateCRLs(file));
            this.crls = CertStore.getInstance("Collection", lists);
        }
        this.ocsp = new URI(ocsp);
    }

    public static void main(String[] arguments) throws Exception {
        var verify = new Verify(arguments[0], arguments[1], arguments[2]);
        for (String chain : Arrays.asList(arguments).subList(3, arguments.length)) {
            System.out.println(chain + ": " + verify.byCrls(chain) + ", " + verify.byOcsp(chain));
        }
    }

    private String byCrls(String chain) throws Exception {
        var checker = checker();
        checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.PREFER_CRLS, PKIXRevocationChecker.Option.NO_FALLBACK));
        return verdict(chain, checker, List.of(crls));
    }

    // A root answers no OCSP requests: its issuing CA is on its CRL, or not.
    private String byOcsp(String chain) throws Exception {
        var checker = checker();
        checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.ONLY_END_ENTITY, PKIXRevocationChecker.Option.NO_FALLBACK));
        checker.setOcspResponder(ocsp);
        return verdict(chain, checker, List.of());
    }

    private String verdict(String chain, PKIXRevocationChecker checker, List<CertStore> stores) throws Exception {
        var parameters = new PKIXParameters(Set.of(root));
        parameters.setCertStores(stores);
        parameters.addCertPathChecker(checker);
        try {
            CertPathValidator.getInstance("PKIX").validate(X509.generateCertPath(new ArrayList<>(read(chain))), parameters);
            return "good";
        } catch (CertPathValidatorException error) {
            if (error.getReason() == BasicReason.REVOKED && error.getCause() instanceof CertificateRevokedException revoked) {
                return "revoked " + revoked.getRevocationReason();
            }
            return error.getReason() + " " + error.getMessage();
        }
    }

    private static PKIXRevocationChecker checker() throws Exception {
        return (PKIXRevocationChecker) CertPathValidator.getInstance("PKIX").getRevocationChecker();
    }

    @SuppressWarnings("unchecked")
    private static Collection<X509Certificate> read(String path) throws Exception {
        try (var file = new FileInputStream(path)) {
            return (Collection<X509Certificate>) X509.generateCertificates(file);
        }
    }

    private static CertificateFactory x509() {
        try {
            return CertificateFactory.getInstance("X.509");
        } catch (java.security.cert.CertificateException error) {
            throw new IllegalStateException(error);
        }
    }
}
